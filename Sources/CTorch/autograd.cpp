// Gradients, the thread's gradient and inference modes, and autocast.

#include "boundary.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

using namespace ctorch;

namespace {
at::DeviceType deviceType(ct_device_kind kind) { return kind == CT_CUDA ? at::kCUDA : at::kCPU; }
} // namespace

extern "C" {

ct_status ct_tensor_set_requires_grad(ct_tensor *tensor, bool requires_grad) {
  return boundary("requires_grad_", [&] { tensor->value.requires_grad_(requires_grad); });
}

ct_status ct_grad(ct_tensor *const *outputs, size_t output_count, ct_tensor *const *inputs, size_t input_count,
                  ct_tensor *const *grad_outputs, bool retain_graph, ct_tensor **out) {
  return boundary("grad", [&] {
    std::vector<at::Tensor> gradOutputs;
    for (size_t i = 0; grad_outputs && i < output_count; ++i)
      gradOutputs.push_back(optional(grad_outputs[i]));
    std::vector<at::Tensor> gradients =
        torch::autograd::grad(list(outputs, output_count), list(inputs, input_count), gradOutputs, retain_graph,
                              /*create_graph=*/false, /*allow_unused=*/true);
    std::vector<std::unique_ptr<ct_tensor>> handles(input_count); // no leak on failure
    for (size_t i = 0; i < input_count; ++i)
      if (gradients[i].defined())
        handles[i].reset(own(std::move(gradients[i])));
    for (size_t i = 0; i < input_count; ++i)
      out[i] = handles[i].release();
  });
}

bool ct_grad_mode_get(void) { return c10::GradMode::is_enabled(); }
void ct_grad_mode_set(bool enabled) { c10::GradMode::set_enabled(enabled); }

void *ct_inference_begin(void) { return new c10::InferenceMode(true); }
void ct_inference_end(void *guard) { delete static_cast<c10::InferenceMode *>(guard); }

ct_autocast_state ct_autocast_get(ct_device_kind kind) {
  const at::DeviceType type = deviceType(kind);
  return {at::autocast::is_autocast_enabled(type), static_cast<ct_dtype>(at::autocast::get_autocast_dtype(type))};
}

ct_status ct_autocast_set(ct_device_kind kind, ct_autocast_state state) {
  return boundary("autocast", [&] {
    at::autocast::set_autocast_dtype(deviceType(kind), scalarType(state.dtype));
    at::autocast::set_autocast_enabled(deviceType(kind), state.enabled);
  });
}

void ct_autocast_clear_cache(void) { at::autocast::clear_cache(); }
}
