// Collectives between GPUs by NCCL, through libtorch's ProcessGroupNCCL. Scripts/nccl builds libCTorchCUDA.so from this
// file; Sources/CTorch/device_collectives.cpp loads it.

#define USE_C10D_NCCL
#include "../CTorch/device_collectives.h"

#include <c10/cuda/CUDAException.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string>

namespace {

const char *name() {
  static const std::string text = "NCCL " + c10d::getNcclVersion();
  return text.c_str();
}

/// Settings of libtorch's NCCL code, which the user's own precede. NCCL's settings (NCCL_*) are left to the user.
void prepareProcess() {
  // After an error or a timeout, libtorch aborts the communicator and leaves the process to us, so that it ends with a
  // sentence. The default is to end the process with a C++ backtrace.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/0);
  // There is no record of past collectives to write (`prepareProcess` in Sources/CTorch/distributed.cpp), and waiting
  // for it would delay the abort.
  setenv("TORCH_NCCL_DUMP_ON_TIMEOUT", "0", /*overwrite=*/0);
}

c10::intrusive_ptr<c10d::Backend> connect(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, int device,
                                          std::chrono::milliseconds timeout) {
  prepareProcess();
  C10_CUDA_CHECK(cudaSetDevice(device));
  // Kernels of a high-priority stream start before those of the computation that are queued already.
  auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
  options->timeout = timeout;
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  // Otherwise the first collective would connect, after the model has been loaded.
  group->eagerConnectSingleDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
  return group;
}

} // namespace

extern "C" {
__attribute__((visibility("default"))) extern const char ctorch_device_collectives_version[];
__attribute__((visibility("default"))) extern const ctorch::DeviceCollectives ctorch_device_collectives;
const char ctorch_device_collectives_version[] = CTORCH_DEVICE_COLLECTIVES;
const ctorch::DeviceCollectives ctorch_device_collectives = {name, connect};
}
