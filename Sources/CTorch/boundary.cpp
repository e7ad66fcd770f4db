#include "boundary.h"

#include <torch/version.h>

#include <cstdlib>
#include <initializer_list>
#include <new>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
              "CTorch is written for libtorch 2.11; run Scripts/bootstrap to install it");

namespace {
thread_local std::string lastMessage;
thread_local std::string lastOperation;

bool contains(const std::string &text, std::initializer_list<const char *> parts) {
  for (const char *part : parts)
    if (text.find(part) != std::string::npos)
      return true;
  return false;
}
} // namespace

namespace ctorch {

ct_status record(ct_status status, const char *operation, const std::string &message) noexcept {
  try {
    lastMessage = message;
    lastOperation = operation;
  } catch (...) { // no memory for the message itself; the status still gives the kind
    lastMessage.clear();
    lastOperation.clear();
  }
  return status;
}

ct_status classify(const std::string &message) noexcept {
  // cuBLAS and cuDNN need memory of their own: CUBLAS_STATUS_ALLOC_FAILED,
  // CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED.
  if (contains(message, {"out of memory", "can't allocate memory", "not enough memory", "_ALLOC_FAILED",
                         "_ALLOCATION_FAILED"}))
    return CT_OUT_OF_MEMORY;
  if (contains(message, {"does not require grad", "backward through the graph a second time",
                         "appears to not have been used in the graph", "leaf Variable", "modified by an inplace",
                         "Inference tensors", "inference tensor", "can be implicitly created"}))
    return CT_AUTOGRAD;
  if (contains(message, {"same device", "different device", "device type", "No CUDA", "CUDA driver", "CUDA GPU",
                         "invalid device ordinal", "Cannot initialize CUDA"}))
    return CT_DEVICE;
  if (contains(message, {"dtype", "ScalarType", "scalar type", "data type", "not implemented for '", "result type",
                         "Expected object of", "only supports floating", "Float but found", "must be Long"}))
    return CT_DTYPE;
  if (contains(message, {"shape", "size", "dimension", "Dimension", "dim ", "dims", "Sizes", "index ", "Index",
                         "numel", "must match", "elements", "channels", "out of range", "broadcast"}))
    return CT_SHAPE;
  return CT_RUNTIME;
}

ct_status translate(const char *operation) noexcept {
  try {
    throw;
  } catch (const c10::OutOfMemoryError &error) {
    return record(CT_OUT_OF_MEMORY, operation, error.what_without_backtrace());
  } catch (const c10::NotImplementedError &error) {
    std::string message = error.what_without_backtrace();
    if (contains(message, {"not implemented for '"}))
      return record(CT_DTYPE, operation, message);
    // The rest of the message lists every kernel in libtorch.
    const size_t end = message.find(" This could be because");
    if (end != std::string::npos)
      message.resize(end);
    if (contains(message, {"from the 'CUDA' backend"}) && !cudaIsLoaded())
      return record(CT_DEVICE, operation, "CUDA is not in use: libtorch's CUDA part is not loaded or not installed");
    return record(CT_NOT_IMPLEMENTED, operation, message);
  } catch (const c10::IndexError &error) {
    return record(CT_SHAPE, operation, error.what_without_backtrace());
  } catch (const c10::DistError &error) {
    return record(CT_COLLECTIVE, operation, error.what_without_backtrace());
  } catch (const c10::Error &error) {
    const std::string message = error.what_without_backtrace();
    return record(classify(message), operation, message);
  } catch (const std::bad_alloc &) {
    return record(CT_OUT_OF_MEMORY, operation, "the process is out of memory");
  } catch (const std::exception &error) {
    return record(classify(error.what()), operation, error.what());
  } catch (...) {
    return record(CT_RUNTIME, operation, "an exception of unknown type");
  }
}

void handOver(std::vector<at::Tensor> tensors, ct_tensor ***out, size_t *count) {
  auto **handles = static_cast<ct_tensor **>(std::malloc(sizeof(ct_tensor *) * (tensors.empty() ? 1 : tensors.size())));
  if (!handles)
    throw std::bad_alloc();
  for (size_t i = 0; i < tensors.size(); ++i)
    handles[i] = own(std::move(tensors[i]));
  *out = handles;
  *count = tensors.size();
}

} // namespace ctorch

extern "C" {

const char *ct_last_error(void) { return lastMessage.c_str(); }
const char *ct_last_error_operation(void) { return lastOperation.c_str(); }
const char *ct_version(void) { return TORCH_VERSION; }

void ct_tensor_free(ct_tensor *tensor) { delete tensor; }
void ct_tensor_list_free(ct_tensor **list) { std::free(list); }
}
