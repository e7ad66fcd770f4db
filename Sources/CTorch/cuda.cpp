// Loading of libtorch's CUDA part, and the reasons why it finds no GPU.

#include "boundary.h"
#include "cuda.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <typeinfo>

using namespace ctorch;

namespace {

constexpr const char *withoutGPU = ", or set `device` to cpu";

std::atomic<bool> isLoaded{false};

/// Drops libtorch's warnings.
struct Silence final : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

template <class Function> Function *function(void *library, const char *name) {
  return reinterpret_cast<Function *>(dlsym(library, name));
}

/// Loads the built-in functions of NVRTC, CUDA's compiler at run time, if they are installed beside
/// CUDA's runtime.
///
/// libtorch compiles some kernels with NVRTC when they are used, and NVRTC then asks the loader for
/// this library by its name. In NVIDIA's wheels it is in a folder that only libtorch's own run path
/// names, so the loader finds it only if it is loaded already; otherwise the compilation fails with
/// NVRTC_ERROR_BUILTIN_OPERATION_FAILURE. An installation that has it elsewhere needs no help.
void loadCompilerBuiltins() {
  auto *runtime = function<void>(RTLD_DEFAULT, "cudaRuntimeGetVersion");
  Dl_info place{};
  if (!runtime || !dladdr(reinterpret_cast<const void *>(runtime), &place) || !place.dli_fname)
    return;
  const std::string path = place.dli_fname;
  const int version = cudaRuntimeVersion();
  const std::string name = "libnvrtc-builtins.so." + std::to_string(version / 1000) + "." +
                           std::to_string(version % 1000 / 10);
  dlopen((path.substr(0, path.rfind('/') + 1) + name).c_str(), RTLD_NOW | RTLD_GLOBAL);
}

/// Returns the problem, or nothing after success.
std::string load() {
  // Segments that grow keep the allocator from splitting memory into pieces that are too small for
  // the next tensor. The allocator reads its settings once, when CUDA is loaded.
  if (!std::getenv("PYTORCH_CUDA_ALLOC_CONF"))
    setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True", /*overwrite=*/0);
  if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
    const char *reason = dlerror();
    return std::string("CUDA can't be loaded (") + (reason ? reason : "libtorch_cuda.so") +
           "). Install libtorch with CUDA with `Scripts/bootstrap --cuda`" + withoutGPU;
  }
  loadCompilerBuiltins();
  // libtorch looks for the hooks of CUDA once, at the first operation that asks for them. Many on
  // the CPU do: a convolution, a backward pass. Without CUDA it keeps hooks that fail, for good.
  const at::CUDAHooksInterface &hooks = at::detail::getCUDAHooks();
  if (typeid(hooks) == typeid(at::CUDAHooksInterface))
    return "CUDA was loaded too late: an operation on the CPU has already set libtorch up without CUDA, for "
           "the life of the process. Call `Device.prepare()` for the GPU before the first operation";
  isLoaded = true;
  return "";
}

/// Why the driver and CUDA's runtime report no GPU, and what to do about it.
std::string reasonForNoDevice() {
  using Query = int(int *);
  auto *count = function<Query>(RTLD_DEFAULT, "cudaGetDeviceCount");
  auto *lastError = function<int()>(RTLD_DEFAULT, "cudaGetLastError");
  auto *errorText = function<const char *(int)>(RTLD_DEFAULT, "cudaGetErrorString");
  const int runtime = cudaRuntimeVersion();
  if (!count || !lastError || !errorText || runtime == 0)
    return std::string("no CUDA GPU was found. Check it with `nvidia-smi`") + withoutGPU;
  int devices = 0;
  const int error = count(&devices);
  lastError(); // libtorch must not find this error at its next call
  // CUDA's runtime has no version for a driver that it can't use, but the driver does.
  const int driver = cudaDriverVersion();

  constexpr int insufficientDriver = 35, noDevice = 100;
  const std::string installed = kernelDriver();
  const std::string name = "the NVIDIA driver" + (installed.empty() ? "" : " " + installed);
  const std::string needed =
      runtime / 1000 == 13 ? "driver 580 or later" : "a driver for " + cudaVersion(runtime);
  if (error == insufficientDriver && driver == 0 && installed.empty())
    return "no NVIDIA driver was found. Install " + needed +
           ", pass the GPU to the container (`docker run --gpus all`)" + withoutGPU;
  if (error == insufficientDriver && driver == 0)
    return name + " is running, but its library libcuda.so.1 was not found. Pass the driver to the container "
                  "(`docker run --gpus all`)" + withoutGPU;
  if (driver != 0 && driver / 1000 < runtime / 1000)
    return name + " is too old: it supports " + cudaVersion(driver) + ", and libtorch needs " +
           cudaVersion(runtime) + ". Install " + needed + withoutGPU;
  if (error == noDevice || error == 0) {
    const char *visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible)
      return std::string("no CUDA GPU is visible: CUDA_VISIBLE_DEVICES is \"") + visible +
             "\". Change or unset it" + withoutGPU;
    return std::string("no CUDA GPU was found. Check it with `nvidia-smi`") + withoutGPU;
  }
  return std::string("the CUDA driver failed: ") + errorText(error) + " (error " + std::to_string(error) +
         "). Check it with `nvidia-smi`; after an update of the driver, restart the machine" + withoutGPU;
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
  if (!cudaIsLoaded())
    return 0;
  // libtorch warns about a driver that it can't use; `ct_cuda_require` has a sentence for that.
  Silence silence;
  c10::WarningUtils::WarningHandlerGuard guard(&silence);
  return at::hasCUDA() ? static_cast<int32_t>(at::detail::getCUDAHooks().deviceCount()) : 0;
}

ct_status ct_cuda_require(int32_t index) {
  return deviceStatus("device", [index]() -> std::string {
    const int32_t count = ct_cuda_device_count();
    if (index >= 0 && index < count) {
      const std::string missing = missingKernels(index);
      return missing.empty() ? "" : missing + ". Use another GPU" + withoutGPU;
    }
    if (count > 0)
      return "cuda:" + std::to_string(index) + " does not exist (found " + std::to_string(count) +
             (count == 1 ? " CUDA GPU" : " CUDA GPUs") + "). Use " +
             (count == 1 ? "cuda:0" : "cuda:0 to cuda:" + std::to_string(count - 1));
    return reasonForNoDevice();
  });
}
}
