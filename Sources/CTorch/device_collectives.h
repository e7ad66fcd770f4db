// The interface between this library and libCTorchCUDA.so, which exchanges tensors between GPUs. It is a library of its
// own because it is linked to CUDA and NCCL, which most installations lack (Scripts/nccl builds it).

#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/version.h>

#include <chrono>

/// What both libraries must be built for. The number changes with this file.
#define CTORCH_DEVICE_COLLECTIVES "interface 1, libtorch " TORCH_VERSION

namespace ctorch {

/// The functions of libCTorchCUDA.so, which exports this table as `ctorch_device_collectives`, and
/// CTORCH_DEVICE_COLLECTIVES as `ctorch_device_collectives_version`. They may throw.
struct DeviceCollectives {
  /// The implementation and its version, such as `NCCL 2.28.9`.
  const char *(*name)();

  /// Connects this process's GPU, `cuda:device`, to those of all other ranks. Waits for them.
  ///
  /// The result runs its collectives on a stream of its own, after the work that is queued on the current stream. The
  /// `wait` of their `Work` makes the current stream wait, and not the host.
  c10::intrusive_ptr<c10d::Backend> (*connect)(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, int device,
                                               std::chrono::milliseconds timeout);
};

/// Loads libCTorchCUDA.so at the first call. CUDA must be loaded.
///
/// Throws an error that says why it can't be used.
const DeviceCollectives &deviceCollectives();

} // namespace ctorch
