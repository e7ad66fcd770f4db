// Loading of libtorch's CUDA part.

#include "boundary.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <atomic>
#include <dlfcn.h>
#include <typeinfo>

using namespace ctorch;

namespace {

constexpr const char *withoutGPU = ", or set `device` to cpu";

std::atomic<bool> isLoaded{false};

/// Returns the problem, or nothing after success.
std::string load() {
  if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
    const char *reason = dlerror();
    return std::string("CUDA can't be loaded (") + (reason ? reason : "libtorch_cuda.so") +
           "). Install libtorch with CUDA with `Scripts/bootstrap --cuda`" + withoutGPU;
  }
  // libtorch looks for the hooks of CUDA once, at the first operation that asks for them. Many on
  // the CPU do: a convolution, a backward pass. Without CUDA it keeps hooks that fail, for good.
  const at::CUDAHooksInterface &hooks = at::detail::getCUDAHooks();
  if (typeid(hooks) == typeid(at::CUDAHooksInterface))
    return "CUDA was loaded too late: an operation on the CPU has already set libtorch up without CUDA, for "
           "the life of the process. Call `Device.prepare()` for the GPU before the first operation";
  isLoaded = true;
  return "";
}

/// Turns the problem that a function returns into a status.
template <class Problem> ct_status deviceStatus(const char *operation, Problem &&problem) noexcept {
  try {
    const std::string found = problem();
    return found.empty() ? CT_OK : record(CT_DEVICE, operation, found);
  } catch (...) {
    return translate(operation);
  }
}

} // namespace

namespace ctorch {

bool cudaIsLoaded() noexcept { return isLoaded; }

} // namespace ctorch

extern "C" {

ct_status ct_cuda_load(void) {
  return deviceStatus("device", [] {
    static const std::string problem = load();
    return problem;
  });
}

int32_t ct_cuda_device_count(void) {
  // Asking libtorch before CUDA is loaded would set it up without CUDA.
  return cudaIsLoaded() && at::hasCUDA() ? static_cast<int32_t>(at::detail::getCUDAHooks().deviceCount()) : 0;
}

ct_status ct_cuda_require(int32_t index) {
  return deviceStatus("device", [index]() -> std::string {
    const int32_t count = ct_cuda_device_count();
    if (index >= 0 && index < count)
      return "";
    if (count > 0)
      return "cuda:" + std::to_string(index) + " does not exist (found " + std::to_string(count) +
             (count == 1 ? " CUDA GPU" : " CUDA GPUs") + "). Use " +
             (count == 1 ? "cuda:0" : "cuda:0 to cuda:" + std::to_string(count - 1));
    return std::string("no CUDA GPU was found. Check it with `nvidia-smi`") + withoutGPU;
  });
}
}
