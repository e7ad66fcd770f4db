// Loading of libCTorchCUDA.so.

#include "device_collectives.h"
#include "boundary.h"

#include <cstring>
#include <dlfcn.h>
#include <string>

using namespace ctorch;

namespace {

struct Loaded {
  const DeviceCollectives *functions = nullptr;
  std::string problem; // empty after success
};

std::string pathOf(const void *symbol) {
  Dl_info place{};
  return dladdr(symbol, &place) && place.dli_fname ? place.dli_fname : "libCTorchCUDA.so";
}

Loaded load() {
  constexpr const char *remedy = "Build it with `Scripts/nccl`";
  if (!cudaIsLoaded())
    return {nullptr, "CUDA is not loaded"};
  // The loader searches LD_LIBRARY_PATH, the folder of this library, and the clone that it was built in.
  void *library = dlopen("libCTorchCUDA.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    return {nullptr, std::string("libCTorchCUDA.so can't be loaded (") + (reason ? reason : "") + "). " + remedy};
  }
  const auto *version = static_cast<const char *>(dlsym(library, "ctorch_device_collectives_version"));
  const void *table = dlsym(library, "ctorch_device_collectives");
  if (!version || !table)
    return {nullptr, std::string("libCTorchCUDA.so is not swift-ltx's (it has no version). ") + remedy};
  if (std::strcmp(version, CTORCH_DEVICE_COLLECTIVES) != 0)
    return {nullptr, pathOf(version) + " was built for " + version + ", but this program needs " +
                         CTORCH_DEVICE_COLLECTIVES + ". " + remedy};
  return {static_cast<const DeviceCollectives *>(table), ""};
}

} // namespace

const DeviceCollectives &ctorch::deviceCollectives() {
  static const Loaded loaded = load();
  TORCH_CHECK(loaded.functions, loaded.problem);
  return *loaded.functions;
}

ct_status ct_device_collectives_load(const char **name) {
  const ct_status status = boundary("collectives", [&] { *name = deviceCollectives().name(); });
  return status == CT_OK ? CT_OK : record(CT_IO, "collectives", std::string(ct_last_error()));
}
