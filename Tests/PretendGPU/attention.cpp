#include "pretend_gpu.h"

#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <torch/library.h>

// Attention and RMS norm, whose choice of kernels and of saved tensors differs between CUDA and the CPU.

namespace pretend {
namespace {

// [B, H, T, D] stored as [B, T, H, D], as CUDA's attention kernels return it.
Tensor attentionResult(const Tensor &like, int64_t width) {
  const int64_t b = like.size(0), h = like.size(1), t = like.size(2);
  return makeTensor({b, t, h, width}, {t * h * width, h * width, width, 1}, like.scalar_type()).transpose(1, 2);
}

Tensor emptyOnDevice(at::IntArrayRef size, at::ScalarType type) {
  std::vector<int64_t> stride(size.size(), 1);
  for (int i = static_cast<int>(size.size()) - 2; i >= 0; --i) stride[i] = stride[i + 1] * size[i + 1];
  return makeTensor(size, stride, type);
}

void checkInputs(std::initializer_list<const Tensor *> tensors, const char *operation) {
  for (const Tensor *tensor : tensors) {
    if (!tensor->defined()) continue;
    TORCH_CHECK(isOnDevice(*tensor), "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (when calling ",
                operation, ")");
    checkAccess(*tensor, false, operation);
  }
}

// The rules of CUDA's `_fused_sdp_choice`. Before compute capability 8.0 there is no flash attention, and no bfloat16 in the
// memory-efficient one.
int64_t chooseAttention(const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask, double, bool isCausal,
                        std::optional<double>, bool) {
  const bool isHalf = q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16;
  const bool isContiguous = q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1;
  const bool hasMask = mask && mask->defined();
  const bool isOld = capability() < 8;
  auto choice = at::SDPBackend::math;
  if (isOld && q.scalar_type() == at::kBFloat16)
    choice = at::SDPBackend::math;
  else if (isHalf && !isOld && !hasMask && q.size(-1) <= 256 && isContiguous && !(isCausal && q.size(-2) != k.size(-2)))
    choice = at::SDPBackend::flash_attention;
  else if ((isHalf || q.scalar_type() == at::kFloat) && q.size(-1) % (isHalf ? 8 : 4) == 0 && isContiguous)
    choice = at::SDPBackend::efficient_attention;
  if (getenv("PRETEND_GPU_SDPA"))
    fprintf(stderr, "attention %s q %s k %s %s%s\n",
            choice == at::SDPBackend::flash_attention       ? "flash"
            : choice == at::SDPBackend::efficient_attention ? "efficient"
                                                            : "math",
            c10::str(q.sizes()).c_str(), c10::str(k.sizes()).c_str(), c10::toString(q.scalar_type()),
            hasMask ? c10::str(" mask ", mask->sizes()).c_str() : "");
  return static_cast<int64_t>(choice);
}

// The output and the log-sum-exp of each row.
std::pair<Tensor, Tensor> attend(const char *name, const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask,
                                 bool isCausal, std::optional<double> scale) {
  c10::DeviceGuard device(q.device());
  currentOperation() = name;
  checkInputs({&q, &k, &v}, name);
  if (mask) checkInputs({&*mask}, name);
  std::pair<Tensor, Tensor> result;
  if (isNull()) {
    result = {attentionResult(q, v.size(3)), emptyOnDevice({q.size(0), q.size(1), q.size(2)}, at::kFloat)};
  } else {
    BelowAutograd guard(autogradKeys());
    std::optional<Tensor> hostMask;
    if (mask && mask->defined()) hostMask = onHost(*mask);
    auto [output, logSumExp] = at::_scaled_dot_product_flash_attention_for_cpu(onHost(q), onHost(k), onHost(v), 0, isCausal, hostMask, scale);
    result = {onDevice(output), onDevice(logSumExp)};
  }
  checkAccess(result.first, true, name);
  checkAccess(result.second, true, name);
  Book::shared().addKernel(name, byteCount(q) + byteCount(k) + byteCount(v) + byteCount(result.first));
  return result;
}

std::tuple<Tensor, Tensor, Tensor> attendBackward(const char *name, const Tensor &gradient, const Tensor &q, const Tensor &k, const Tensor &v,
                                                  const Tensor &mask, const Tensor &output, const Tensor &logSumExp, bool isCausal,
                                                  std::optional<double> scale) {
  c10::DeviceGuard device(q.device());
  currentOperation() = name;
  checkInputs({&gradient, &q, &k, &v, &mask, &output, &logSumExp}, name);
  std::tuple<Tensor, Tensor, Tensor> result;
  if (isNull()) {
    result = {attentionResult(q, q.size(3)), attentionResult(k, k.size(3)), attentionResult(v, v.size(3))};
  } else {
    BelowAutograd guard(autogradKeys());
    std::optional<Tensor> hostMask;
    if (mask.defined()) hostMask = onHost(mask);
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(onHost(gradient), onHost(q), onHost(k), onHost(v), onHost(output),
                                                                                 onHost(logSumExp), 0, isCausal, hostMask, scale);
    result = {onDevice(dq), onDevice(dk), onDevice(dv)};
  }
  checkAccess(std::get<0>(result), true, name);
  checkAccess(std::get<1>(result), true, name);
  checkAccess(std::get<2>(result), true, name);
  Book::shared().addKernel(name, 2 * (byteCount(q) + byteCount(k) + byteCount(v)) + 2 * byteCount(output));
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>
flash(const Tensor &q, const Tensor &k, const Tensor &v, double, bool isCausal, bool, std::optional<double> scale) {
  c10::DeviceGuard device(q.device());
  auto [output, logSumExp] = attend("aten::_scaled_dot_product_flash_attention", q, k, v, std::nullopt, isCausal, scale);
  return {output, logSumExp, Tensor(), Tensor(), q.size(2), k.size(2), emptyOnDevice({2}, at::kLong), emptyOnDevice({}, at::kLong),
          emptyOnDevice({0}, at::kFloat)};
}

std::tuple<Tensor, Tensor, Tensor> flashBackward(const Tensor &gradient, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &output,
                                                 const Tensor &logSumExp, const Tensor &, const Tensor &, c10::SymInt, c10::SymInt, double,
                                                 bool isCausal, const Tensor &, const Tensor &, std::optional<double> scale) {
  return attendBackward("aten::_scaled_dot_product_flash_attention_backward", gradient, q, k, v, Tensor(), output, logSumExp, isCausal, scale);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient(const Tensor &q, const Tensor &k, const Tensor &v, const std::optional<Tensor> &mask, bool,
                                                     double, bool isCausal, std::optional<double> scale) {
  c10::DeviceGuard device(q.device());
  auto [output, logSumExp] = attend("aten::_scaled_dot_product_efficient_attention", q, k, v, mask, isCausal, scale);
  return {output, logSumExp, emptyOnDevice({}, at::kLong), emptyOnDevice({}, at::kLong)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor>
efficientBackward(const Tensor &gradient, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &mask, const Tensor &output,
                  const Tensor &logSumExp, const Tensor &, const Tensor &, double, std::array<bool, 4>, bool isCausal, std::optional<double> scale) {
  auto [dq, dk, dv] =
      attendBackward("aten::_scaled_dot_product_efficient_attention_backward", gradient, q, k, v, mask, output, logSumExp, isCausal, scale);
  return {dq, dk, dv, Tensor()};
}

// In float32, as CUDA's fused kernel computes it.
std::tuple<Tensor, Tensor> rmsNorm(const Tensor &x, at::IntArrayRef, const std::optional<Tensor> &weight, std::optional<double> epsilon) {
  constexpr auto name = "aten::_fused_rms_norm";
  c10::DeviceGuard device(x.device());
  currentOperation() = name;
  checkInputs({&x}, name);
  if (weight) checkInputs({&*weight}, name);
  Book::shared().addKernel(name, 2 * byteCount(x));
  if (isNull()) {
    std::vector<int64_t> rows = x.sizes().vec();
    rows.back() = 1;
    return {at::empty(x.sizes(), x.options()), at::empty(rows, x.options().dtype(at::kFloat))};
  }
  BelowAutograd guard(autogradKeys());
  const Tensor values = onHost(x).to(at::kFloat);
  const Tensor inverse = values.pow(2).mean({-1}, true).add(epsilon ? *epsilon : 1e-6).rsqrt();
  Tensor result = values * inverse;
  if (weight && weight->defined()) result = result * onHost(*weight).to(at::kFloat);
  return {onDevice(result.to(x.scalar_type())), onDevice(inverse)};
}

std::tuple<Tensor, Tensor> rmsNormBackward(const Tensor &gradient, const Tensor &x, at::IntArrayRef, const Tensor &inverse,
                                           const std::optional<Tensor> &weight, std::array<bool, 2> isNeeded) {
  constexpr auto name = "aten::_fused_rms_norm_backward";
  c10::DeviceGuard device(x.device());
  currentOperation() = name;
  checkInputs({&gradient, &x, &inverse}, name);
  Book::shared().addKernel(name, 3 * byteCount(x));
  if (isNull())
    return {isNeeded[0] ? at::empty(x.sizes(), x.options()) : Tensor(), isNeeded[1] ? at::empty(weight->sizes(), weight->options()) : Tensor()};
  BelowAutograd guard(autogradKeys());
  const Tensor scale = onHost(inverse), normalized = onHost(x).to(at::kFloat) * scale;
  Tensor dy = onHost(gradient).to(at::kFloat), dw;
  if (isNeeded[1]) dw = onDevice((dy * normalized).flatten(0, -2).sum({0}).to(weight->scalar_type()));
  if (weight && weight->defined()) dy = dy * onHost(*weight).to(at::kFloat);
  const Tensor dx = (dy - normalized * (dy * normalized).mean({-1}, true)) * scale;
  return {isNeeded[0] ? onDevice(dx.to(x.scalar_type())) : Tensor(), dw};
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("_fused_sdp_choice", chooseAttention);
  library.impl("_scaled_dot_product_flash_attention", flash);
  library.impl("_scaled_dot_product_flash_attention_backward", flashBackward);
  library.impl("_scaled_dot_product_efficient_attention", efficient);
  library.impl("_scaled_dot_product_efficient_attention_backward", efficientBackward);
  library.impl("_fused_rms_norm", rmsNorm);
  library.impl("_fused_rms_norm_backward", rmsNormBackward);
}

} // namespace
} // namespace pretend

namespace at::native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &pretend::chooseAttention)
} // namespace at::native
