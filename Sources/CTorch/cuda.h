// What CUDA's libraries and NVIDIA's driver say about themselves and their GPUs.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ctorch {

/// The version in words: 13000 is `CUDA 13.0`.
std::string cudaVersion(int version);

/// The version of the CUDA runtime that libtorch is linked to; 0 if there is none.
int cudaRuntimeVersion();

/// The newest CUDA that the installed driver supports; 0 without a driver.
int cudaDriverVersion();

/// The version of the driver in the kernel, such as 550.54.14; empty without one.
std::string kernelDriver();

/// A GPU as the driver describes it.
struct GPU {
  std::string name;
  int major = 0, minor = 0; // the compute capability
  int multiprocessors = 0;

  /// Such as `cuda:0 (NVIDIA H200)`.
  std::string title(int32_t index) const;
  std::string capability() const { return std::to_string(major) + "." + std::to_string(minor); }
};

/// Nothing if the driver can't be asked.
std::optional<GPU> findGPU(int32_t index);

/// The reason why the loaded libtorch has no kernels for a GPU; empty if it has some, or if it
/// doesn't say for which GPUs it was built.
std::string missingKernels(int32_t index);

} // namespace ctorch
