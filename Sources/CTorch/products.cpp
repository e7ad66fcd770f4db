// Matrix products on processors on which libtorch computes them slowly.
//
// Float32: libtorch uses MKL, which doesn't use AVX-512 on AMD's processors and is two to three times
// slower there than oneDNN, also part of libtorch. On such a processor, `mm` and `addmm` on the CPU,
// and everything built on them (linear layers and their backward passes), go to oneDNN.
//
// Bfloat16 and float16: oneDNN needs AVX-512 for them, and what libtorch uses otherwise computes some
// products 4 times and others 50 times slower than in float32. On processors without it, they are
// computed in float32 and rounded at the end, as oneDNN does inside. So is attention, which consists
// of such products. Only for a few rows and a bfloat16 weight is libtorch's way faster, because the
// copy of the weight in float32 would take longer than the product.
//
// On all other processors nothing is replaced.

#include "kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward_cpu_dispatch.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_cpu_dispatch.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace {

struct Processor {
  bool isSlowInMKL = false;
  /// Whether libtorch computes in these dtypes without vector units for them.
  bool isSlowInBFloat16 = false, isSlowInHalf = false;

  Processor() {
#if defined(__x86_64__)
    isSlowInMKL = __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f");
    isSlowInBFloat16 =
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq");
    isSlowInHalf = !__builtin_cpu_supports("avx512fp16");
#endif
  }

  bool isSlow(at::ScalarType dtype) const {
    switch (dtype) {
    case at::kFloat: return isSlowInMKL;
    case at::kBFloat16: return isSlowInBFloat16;
    case at::kHalf: return isSlowInHalf;
    default: return false;
    }
  }
};

const Processor processor;

/// The number of rows up to which libtorch multiplies by a transposed bfloat16 weight faster than it
/// is converted. With AVX2, a row takes a third of the time of the conversion, 8 rows as long.
constexpr int64_t fewRows = 8;

/// Whether the product is slow here, and the matrices are large enough for another way, which costs
/// some microseconds.
bool isReplaced(const at::Tensor &a, const at::Tensor &b) {
  if (a.dim() != 2 || b.dim() != 2 || a.size(1) != b.size(0) || a.scalar_type() != b.scalar_type() ||
      !processor.isSlow(a.scalar_type()))
    return false;
  if (a.scalar_type() == at::kBFloat16 && a.size(0) <= fewRows && b.stride(0) == 1)
    return false;
  const bool isFloat = a.scalar_type() == at::kFloat;
  const int64_t least = isFloat ? 16 : 1, volume = int64_t(1) << (isFloat ? 20 : 14);
  return a.size(0) >= least && a.size(1) >= least && b.size(1) >= least && a.size(0) * a.size(1) * b.size(1) >= volume;
}

/// Returns a b + bias.
at::Tensor product(const at::Tensor &a, const at::Tensor &b, const std::optional<at::Tensor> &bias) {
  using Operation = at::Tensor(const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Operation>();
  return operation.call(a.contiguous(), b.t(), bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

at::Tensor mm(const at::Tensor &a, const at::Tensor &b) {
  if (!isReplaced(a, b))
    return at::cpu::mm(a, b);
  if (a.scalar_type() == at::kFloat)
    return product(a, b, std::nullopt);
  return at::cpu::mm(a.to(at::kFloat), b.to(at::kFloat)).to(a.scalar_type());
}

at::Tensor addmm(const at::Tensor &c, const at::Tensor &a, const at::Tensor &b, const at::Scalar &beta, const at::Scalar &alpha) {
  if (!isReplaced(a, b) || c.scalar_type() != a.scalar_type())
    return at::cpu::addmm(c, a, b, beta, alpha);
  if (a.scalar_type() != at::kFloat)
    return at::cpu::addmm(c.to(at::kFloat), a.to(at::kFloat), b.to(at::kFloat), beta, alpha).to(a.scalar_type());
  const bool isBias = c.dim() == 1 && c.size(0) == b.size(-1) && beta.equal(1) && alpha.equal(1);
  return isBias ? product(a, b, c.contiguous()) : at::cpu::addmm(c, a, b, beta, alpha);
}

at::Tensor wide(const at::Tensor &tensor) { return tensor.to(at::kFloat); }

std::optional<at::Tensor> wide(const std::optional<at::Tensor> &mask) {
  return mask && mask->is_floating_point() ? std::optional(mask->to(at::kFloat)) : mask;
}

std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, double dropout,
                                             bool isCausal, const std::optional<at::Tensor> &mask, std::optional<double> scale) {
  if (q.scalar_type() == at::kFloat || !processor.isSlow(q.scalar_type()))
    return at::cpu::_scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, isCausal, mask, scale);
  auto [output, logSumExp] =
      at::cpu::_scaled_dot_product_flash_attention_for_cpu(wide(q), wide(k), wide(v), dropout, isCausal, wide(mask), scale);
  return {output.to(q.scalar_type()), logSumExp};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor>
attentionBackward(const at::Tensor &gradient, const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
                  const at::Tensor &output, const at::Tensor &logSumExp, double dropout, bool isCausal,
                  const std::optional<at::Tensor> &mask, std::optional<double> scale) {
  if (q.scalar_type() == at::kFloat || !processor.isSlow(q.scalar_type()))
    return at::cpu::_scaled_dot_product_flash_attention_for_cpu_backward(gradient, q, k, v, output, logSumExp, dropout, isCausal,
                                                                         mask, scale);
  auto [dq, dk, dv] = at::cpu::_scaled_dot_product_flash_attention_for_cpu_backward(
      wide(gradient), wide(q), wide(k), wide(v), wide(output), logSumExp, dropout, isCausal, wide(mask), scale);
  return {dq.to(q.scalar_type()), dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

struct Silence : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

/// Registers the replacements without libtorch's warning about them.
std::unique_ptr<torch::Library> replacements() {
  if (!processor.isSlowInMKL && !processor.isSlowInBFloat16 && !processor.isSlowInHalf)
    return nullptr;
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard guard(&silence);
  auto library = std::make_unique<torch::Library>(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
  library->impl("mm", mm);
  library->impl("addmm", addmm);
  if (processor.isSlowInBFloat16 || processor.isSlowInHalf) {
    library->impl("_scaled_dot_product_flash_attention_for_cpu", attention);
    library->impl("_scaled_dot_product_flash_attention_for_cpu_backward", attentionBackward);
  }
  return library;
}

const auto replaced = replacements();

} // namespace
