// Float32 matrix products with oneDNN on processors on which MKL is slow.
//
// libtorch computes float32 products with MKL, which doesn't use AVX-512 on AMD's processors and is
// two to three times slower there than oneDNN, also part of libtorch. So on such a processor, `mm`
// and `addmm` on the CPU, and everything built on them (linear layers and their backward passes),
// go to oneDNN. On all other processors nothing is replaced.

#include "kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

namespace {

/// Whether the matrices are large enough for a call of oneDNN, which costs some microseconds.
bool suits(const at::Tensor &a, const at::Tensor &b) {
  constexpr int64_t least = 16;
  return a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.scalar_type() == at::kFloat &&
         b.scalar_type() == at::kFloat && a.size(0) >= least && a.size(1) >= least && b.size(1) >= least &&
         a.size(0) * a.size(1) * b.size(1) >= int64_t(1) << 20;
}

/// Returns a b + bias.
at::Tensor product(const at::Tensor &a, const at::Tensor &b, const std::optional<at::Tensor> &bias) {
  using Operation = at::Tensor(const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Operation>();
  return operation.call(a.contiguous(), b.t(), bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

at::Tensor mm(const at::Tensor &a, const at::Tensor &b) { return suits(a, b) ? product(a, b, std::nullopt) : at::cpu::mm(a, b); }

at::Tensor addmm(const at::Tensor &c, const at::Tensor &a, const at::Tensor &b, const at::Scalar &beta, const at::Scalar &alpha) {
  const bool isBias = c.dim() == 1 && c.size(0) == b.size(-1) && c.scalar_type() == at::kFloat && beta.equal(1) && alpha.equal(1);
  return isBias && suits(a, b) ? product(a, b, c.contiguous()) : at::cpu::addmm(c, a, b, beta, alpha);
}

bool isSlowInMKL() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

struct Silence : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

/// Registers the replacements without libtorch's warning about them.
std::unique_ptr<torch::Library> replacements() {
  if (!isSlowInMKL())
    return nullptr;
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard guard(&silence);
  auto library = std::make_unique<torch::Library>(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
  library->impl("mm", mm);
  library->impl("addmm", addmm);
  return library;
}

const auto replaced = replacements();

} // namespace
