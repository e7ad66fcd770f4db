// The one place where C++ exceptions are caught, and conversions of the handles.

#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/IListRef.h>
#include <ATen/core/IListRef_inl.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <string>
#include <vector>

#include "ctorch.h"

struct ct_tensor {
  at::Tensor value;
  /// The value in another dtype, as of the version `copied` of its elements (`ct_cast_together`).
  at::Tensor copy;
  int64_t copied = 0;
};

struct ct_generator {
  at::Generator value;
};

namespace ctorch {

/// Stores the message and the operation's name for `ct_last_error`, and returns the status.
ct_status record(ct_status status, const char *operation, const std::string &message) noexcept;

/// Returns the kind of failure of a plain `c10::Error`. libtorch 2.11 throws the same C++ type for
/// bad shapes and bad dtypes, so this reads the message; `TorchErrorTests` has an example of each.
ct_status classify(const std::string &message) noexcept;

/// Translates the current exception.
ct_status translate(const char *operation) noexcept;

template <class Body> ct_status boundary(const char *operation, Body &&body) noexcept {
  try {
    body();
    return CT_OK;
  } catch (...) {
    return translate(operation);
  }
}

inline ct_tensor *own(at::Tensor tensor) { return new ct_tensor{std::move(tensor)}; }

inline at::Tensor optional(const ct_tensor *tensor) { return tensor ? tensor->value : at::Tensor(); }

inline std::optional<at::Tensor> maybe(const ct_tensor *tensor) {
  return tensor ? std::optional<at::Tensor>(tensor->value) : std::nullopt;
}

inline std::vector<at::Tensor> list(ct_tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i)
    result.push_back(tensors[i]->value);
  return result;
}

inline at::IntArrayRef sizes(const int64_t *values, size_t count) { return at::IntArrayRef(values, count); }

inline at::ScalarType scalarType(ct_dtype dtype) { return static_cast<at::ScalarType>(dtype); }

inline at::Scalar scalar(ct_scalar value) {
  return value.is_integer ? at::Scalar(value.integer) : at::Scalar(value.real);
}

inline at::Device device(ct_device device) {
  if (device.kind == CT_CPU)
    return at::Device(at::kCPU);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device.index));
}

/// Whether libtorch's CUDA part is in use. Unlike `at::hasCUDA()`, this may be called before it is
/// loaded.
bool cudaIsLoaded() noexcept;

/// Returns a vector as a malloc'ed array of owned handles.
void handOver(std::vector<at::Tensor> tensors, ct_tensor ***out, size_t *count);

} // namespace ctorch
