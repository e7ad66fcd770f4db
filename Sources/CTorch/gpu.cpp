// GPUs: what the driver says about them, and what libtorch can run on them.

#include "boundary.h"
#include "cuda.h"

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <ATen/Parallel.h>
#include <ATen/SDPBackend.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <sstream>
#include <vector>

using namespace ctorch;

namespace {

/// A function of the driver, whose functions have kept their names and arguments for many versions.
template <class Function> Function *driverFunction(const char *name) {
  if (void *loaded = dlsym(RTLD_DEFAULT, name))
    return reinterpret_cast<Function *>(loaded);
  // libtorch is not linked to the driver.
  static void *const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library ? reinterpret_cast<Function *>(dlsym(library, name)) : nullptr;
}

void copyText(const std::string &text, char *out, size_t capacity) {
  const size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(out, text.data(), length);
  out[length] = 0;
}

/// An architecture that libtorch has kernels for.
struct Architecture {
  int version; // 90 for compute capability 9.0
  bool isPTX;  // for any newer GPU

  bool runs(const GPU &gpu) const {
    const int wanted = 10 * gpu.major + gpu.minor;
    // Machine code runs on later minor versions of the same major version.
    return isPTX ? wanted >= version : version / 10 == gpu.major && wanted >= version;
  }
};

/// The architectures in libtorch's description of its build, which has the compiler's arguments:
/// `-gencode;arch=compute_90,code=sm_90`.
std::vector<Architecture> builtArchitectures() {
  std::vector<Architecture> found;
  const std::string text = at::detail::getCUDAHooks().showConfig();
  const std::string marker = "code=";
  for (size_t at = text.find(marker); at != std::string::npos; at = text.find(marker, at + 1)) {
    const std::string code = text.substr(at + marker.size(), 12);
    const bool isPTX = code.rfind("compute_", 0) == 0;
    if (!isPTX && code.rfind("sm_", 0) != 0)
      continue;
    const int version = std::atoi(code.c_str() + (isPTX ? 8 : 3));
    if (version > 0)
      found.push_back({version, isPTX});
  }
  return found;
}

} // namespace

namespace ctorch {

std::string cudaVersion(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int cudaRuntimeVersion() {
  auto *query = reinterpret_cast<int (*)(int *)>(dlsym(RTLD_DEFAULT, "cudaRuntimeGetVersion"));
  int version = 0;
  return query && query(&version) == 0 ? version : 0;
}

int cudaDriverVersion() {
  auto *query = driverFunction<int(int *)>("cuDriverGetVersion");
  int version = 0;
  return query && query(&version) == 0 ? version : 0;
}

std::string kernelDriver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos)
      return word;
  return "";
}

std::string GPU::title(int32_t index) const {
  return "cuda:" + std::to_string(index) + (name.empty() ? "" : " (" + name + ")");
}

std::optional<GPU> findGPU(int32_t index) {
  auto *start = driverFunction<int(unsigned)>("cuInit");
  auto *find = driverFunction<int(int *, int)>("cuDeviceGet");
  auto *name = driverFunction<int(char *, int, int)>("cuDeviceGetName");
  auto *attribute = driverFunction<int(int *, int, int)>("cuDeviceGetAttribute");
  int device = 0;
  if (!start || !find || !name || !attribute || start(0) != 0 || find(&device, index) != 0)
    return std::nullopt;
  constexpr int multiprocessorCount = 16, capabilityMajor = 75, capabilityMinor = 76;
  GPU gpu;
  char text[256] = "";
  if (name(text, sizeof text, device) == 0)
    gpu.name = text;
  if (attribute(&gpu.major, capabilityMajor, device) != 0 || attribute(&gpu.minor, capabilityMinor, device) != 0)
    return std::nullopt;
  attribute(&gpu.multiprocessors, multiprocessorCount, device);
  return gpu;
}

std::string missingKernels(int32_t index) {
  const auto gpu = findGPU(index);
  const auto architectures = builtArchitectures();
  if (!gpu || architectures.empty() ||
      std::any_of(architectures.begin(), architectures.end(), [&](const auto &a) { return a.runs(*gpu); }))
    return "";
  std::string list;
  for (const auto &architecture : architectures)
    list += (list.empty() ? "" : ", ") + std::to_string(architecture.version / 10) + "." +
            std::to_string(architecture.version % 10);
  return gpu->title(index) + " has compute capability " + gpu->capability() +
         ", for which this libtorch has no kernels (found " + list + ")";
}

} // namespace ctorch

extern "C" {

const char *ct_library_path(void) {
  static const std::string path = [] {
    Dl_info place{};
    const auto function = reinterpret_cast<const void *>(&at::get_num_threads);
    return std::string(dladdr(function, &place) && place.dli_fname ? place.dli_fname : "");
  }();
  return path.c_str();
}

const char *ct_vector_instructions(void) {
  static const std::string name = at::get_cpu_capability();
  return name.c_str();
}

void ct_cuda_driver_find(ct_cuda_driver *out) {
  *out = {cudaRuntimeVersion(), cudaDriverVersion(), ""};
  copyText(kernelDriver(), out->version, sizeof out->version);
}

ct_status ct_cuda_properties_find(int32_t index, ct_cuda_properties *out) {
  return boundary("device", [&] {
    const GPU gpu = findGPU(index).value_or(GPU());
    auto *allocator = dynamic_cast<c10::DeviceAllocator *>(c10::GetAllocator(at::kCUDA));
    TORCH_CHECK(allocator, "No CUDA device is in use");
    const auto [free, total] = allocator->getMemoryInfo(static_cast<c10::DeviceIndex>(index));
    *out = {"", gpu.major, gpu.minor, gpu.multiprocessors, static_cast<int64_t>(free), static_cast<int64_t>(total)};
    copyText(gpu.name, out->name, sizeof out->name);
  });
}

ct_status ct_synchronize(ct_device target) {
  return boundary("synchronize", [&] {
    if (target.kind == CT_CUDA)
      at::detail::getCUDAHooks().deviceSynchronize(static_cast<c10::DeviceIndex>(target.index));
  });
}

ct_status ct_attention_choice(const ct_tensor *query, const ct_tensor *key, const ct_tensor *value, const ct_tensor *mask,
                              ct_attention_kernel *out) {
  return boundary("_fused_sdp_choice", [&] {
    const auto choice = at::_fused_sdp_choice(query->value, key->value, value->value, maybe(mask), /*dropout_p=*/0.0,
                                              /*is_causal=*/false, /*scale=*/std::nullopt, /*enable_gqa=*/false);
    switch (static_cast<at::SDPBackend>(choice)) {
    case at::SDPBackend::math:
      *out = CT_ATTENTION_UNFUSED;
      return;
    case at::SDPBackend::flash_attention:
      *out = CT_ATTENTION_FLASH;
      return;
    case at::SDPBackend::efficient_attention:
      *out = CT_ATTENTION_EFFICIENT;
      return;
    case at::SDPBackend::cudnn_attention:
      *out = CT_ATTENTION_CUDNN;
      return;
    default:
      TORCH_CHECK(false, "libtorch has no attention for these tensors (choice ", choice, ")");
    }
  });
}
}
