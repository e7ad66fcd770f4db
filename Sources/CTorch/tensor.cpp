// Tensors: their properties, creation and copies.

#include "boundary.h"

#include <ATen/ATen.h>

#include <cstring>

using namespace ctorch;

extern "C" {

int64_t ct_tensor_dim(const ct_tensor *tensor) { return tensor->value.dim(); }

void ct_tensor_sizes(const ct_tensor *tensor, int64_t *out) {
  const auto sizes = tensor->value.sizes();
  std::copy(sizes.begin(), sizes.end(), out);
}

void ct_tensor_strides(const ct_tensor *tensor, int64_t *out) {
  const auto strides = tensor->value.strides();
  std::copy(strides.begin(), strides.end(), out);
}

int64_t ct_tensor_numel(const ct_tensor *tensor) { return tensor->value.numel(); }

int32_t ct_tensor_dtype(const ct_tensor *tensor) {
  switch (tensor->value.scalar_type()) {
  case at::kByte:
  case at::kChar:
  case at::kShort:
  case at::kInt:
  case at::kLong:
  case at::kHalf:
  case at::kFloat:
  case at::kDouble:
  case at::kBool:
  case at::kBFloat16:
  case at::kFloat8_e5m2:
  case at::kFloat8_e4m3fn:
    return static_cast<int32_t>(tensor->value.scalar_type());
  default:
    return -1;
  }
}

ct_device ct_tensor_device(const ct_tensor *tensor) {
  const at::Device device = tensor->value.device();
  return {device.is_cuda() ? CT_CUDA : CT_CPU, device.is_cuda() ? device.index() : 0};
}

bool ct_tensor_is_contiguous(const ct_tensor *tensor) { return tensor->value.is_contiguous(); }
bool ct_tensor_requires_grad(const ct_tensor *tensor) { return tensor->value.requires_grad(); }
bool ct_tensor_is_leaf(const ct_tensor *tensor) { return tensor->value.is_leaf(); }
bool ct_tensor_shares_storage(const ct_tensor *a, const ct_tensor *b) {
  if (a->value.is_alias_of(b->value)) return true;
  // Views of memory that libtorch doesn't own, such as a file's, each have their own storage.
  if (!a->value.has_storage() || !b->value.has_storage()) return false;
  const void *memory = a->value.storage().data();
  return memory != nullptr && memory == b->value.storage().data();
}

ct_status ct_tensor_from_memory(void *bytes, ct_dtype dtype, const int64_t *shape, size_t rank, void *context,
                                void (*release)(void *context), ct_tensor **out) {
  return boundary("from_memory", [&] {
    *out = own(at::from_blob(
        bytes, sizes(shape, rank), [context, release](void *) { release(context); },
        at::TensorOptions().dtype(scalarType(dtype))));
  });
}

ct_status ct_tensor_copy_from(const void *bytes, ct_dtype dtype, const int64_t *shape, size_t rank, ct_tensor **out) {
  return boundary("copy_from", [&] {
    at::Tensor tensor = at::empty(sizes(shape, rank), at::TensorOptions().dtype(scalarType(dtype)));
    if (tensor.nbytes() > 0)
      std::memcpy(tensor.data_ptr(), bytes, tensor.nbytes());
    *out = own(std::move(tensor));
  });
}

ct_status ct_tensor_copy_to(const ct_tensor *tensor, void *bytes, size_t capacity) {
  return boundary("copy_to", [&] {
    const at::Tensor contiguous = tensor->value.detach().to(at::kCPU).contiguous();
    TORCH_CHECK(contiguous.nbytes() == capacity, "the tensor's size is ", contiguous.nbytes(),
                " bytes, the destination's ", capacity);
    if (capacity > 0)
      std::memcpy(bytes, contiguous.const_data_ptr(), capacity);
  });
}

ct_status ct_tensor_data(const ct_tensor *tensor, void **out) {
  return boundary("data", [&] {
    TORCH_CHECK(tensor->value.device().is_cpu(), "device type: the elements are not in the CPU's memory");
    TORCH_CHECK(tensor->value.is_contiguous(), "shape: the tensor is not contiguous");
    *out = const_cast<void *>(tensor->value.const_data_ptr());
  });
}

ct_status ct_tensor_item(const ct_tensor *tensor, double *out) {
  return boundary("item", [&] {
    TORCH_CHECK(tensor->value.numel() == 1, "shape: a tensor of ", tensor->value.numel(), " elements has no one value");
    *out = tensor->value.detach().to(at::kDouble).item<double>();
  });
}

ct_status ct_tensor_to(const ct_tensor *tensor, ct_dtype dtype, ct_device target, bool non_blocking, bool copy,
                       ct_tensor **out) {
  return boundary("to", [&] { *out = own(tensor->value.to(device(target), scalarType(dtype), non_blocking, copy)); });
}

ct_status ct_tensor_move(ct_tensor *tensor, ct_device target) {
  return boundary("move", [&] {
    TORCH_CHECK(!tensor->value.requires_grad(), "move: the tensor is differentiated");
    tensor->value = tensor->value.to(ctorch::device(target));
  });
}

ct_status ct_empty(const int64_t *shape, size_t rank, ct_dtype dtype, ct_device target, ct_tensor **out) {
  return boundary("empty", [&] {
    *out = own(at::empty(sizes(shape, rank), at::TensorOptions().dtype(scalarType(dtype)).device(device(target))));
  });
}

ct_status ct_full(const int64_t *shape, size_t rank, ct_scalar value, ct_dtype dtype, ct_device target,
                  ct_tensor **out) {
  return boundary("full", [&] {
    *out = own(at::full(sizes(shape, rank), scalar(value),
                        at::TensorOptions().dtype(scalarType(dtype)).device(device(target))));
  });
}

ct_status ct_arange(ct_scalar start, ct_scalar end, ct_scalar step, ct_dtype dtype, ct_device target, ct_tensor **out) {
  return boundary("arange", [&] {
    *out = own(at::arange(scalar(start), scalar(end), scalar(step),
                          at::TensorOptions().dtype(scalarType(dtype)).device(device(target))));
  });
}

ct_status ct_linspace(double start, double end, int64_t steps, ct_dtype dtype, ct_device target, ct_tensor **out) {
  return boundary("linspace", [&] {
    *out = own(
        at::linspace(start, end, steps, at::TensorOptions().dtype(scalarType(dtype)).device(device(target))));
  });
}
}
