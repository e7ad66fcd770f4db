// A pretend GPU: registers itself as CUDA in a libtorch without CUDA, and computes on the CPU.
// See README.md for what it checks and how it is configured.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace pretend {

using at::Tensor;

constexpr auto kDevice = c10::DeviceType::CUDA;
constexpr auto kKey = c10::DispatchKey::CUDA;

// ---- Settings, from the environment ----------------------------------------------------------------

int deviceCount();      // PRETEND_GPU_COUNT, default 1
size_t capacity();      // PRETEND_GPU_BYTES of each device, or libtorch's own setting; default unlimited
size_t totalBytes();    // what each device says it has: PRETEND_GPU_BYTES, default 80 GB
double capability();    // PRETEND_GPU_CAPABILITY, default 9.0
bool isNull();          // PRETEND_GPU_NULL: large results have their shapes and memory, but hold zeros
bool copiesAreLate();   // PRETEND_GPU_LATE: copies that don't block are done when something waits for them

// ---- Memory -----------------------------------------------------------------------------------------

// The memory of one device. Device addresses lie in a region that nobody may access, so the host touching device
// memory is a SIGSEGV. The data is at a constant distance, in a region that only kernels use.
class Arena {
public:
  static Arena &of(c10::DeviceIndex index);
  // The arena that a device address belongs to; null for other addresses.
  static Arena *owner(const void *address);
  static bool isData(const void *address);

  void *allocate(size_t bytes);
  void release(void *address);
  void *data(const void *address) const { return data_ + (static_cast<const char *>(address) - device_); }

  size_t live() const { return live_; }
  size_t peak() const { return peak_; }
  size_t allocations() const { return allocations_; }
  void resetPeak() { peak_ = live_; }
  // The peak since the last call.
  size_t takePhasePeak() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(phasePeak_, live_);
  }
  c10::DeviceIndex index() const { return index_; }

private:
  explicit Arena(c10::DeviceIndex index);

  c10::DeviceIndex index_;
  char *device_, *data_;
  size_t next_ = 4096, live_ = 0, peak_ = 0, phasePeak_ = 0, logged_ = 0, allocations_ = 0;
  std::map<size_t, std::vector<size_t>> freed_; // offsets by size
  std::map<size_t, size_t> sizes_;              // by offset
  std::mutex mutex_;
};

c10::DeviceAllocator &allocator();
bool isPinned(const void *address);
bool isOnDevice(const Tensor &tensor);
Tensor makeTensor(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType type);
// The same tensor as the CPU sees it, for kernels. A tensor of the CPU is returned unchanged.
Tensor onHost(const Tensor &tensor);
// A new tensor on the current device with the values of a CPU tensor; undefined for an undefined one.
Tensor onDevice(const Tensor &tensor);

// ---- Devices and streams ----------------------------------------------------------------------------

c10::DeviceIndex &currentDevice();
c10::Stream currentStream(c10::DeviceIndex index);

// Does the late copies of a stream up to a number, or all of them. Numbers count the copies of a stream.
void finishCopies(c10::Stream stream, uint64_t upTo = UINT64_MAX);
void finishAllCopies();
// Queues a copy on the current stream. Until it is done, the destination holds NaN.
void copyLate(const Tensor &destination, const Tensor &source);

// Checks that a kernel on the current stream may use a tensor: everything that other streams did to its memory must
// be ordered before the kernel by an event or a synchronization.
void checkAccess(const Tensor &tensor, bool isWritten, const char *operation);
void forgetAccesses(const void *address);

// ---- Books ------------------------------------------------------------------------------------------

struct Count {
  int64_t calls = 0, bytes = 0;
};

struct Book {
  std::mutex mutex;
  std::map<std::string, Count> operations;
  int64_t kernels = 0, syncs = 0, bytes = 0;
  int64_t uploads = 0, pageableBytes = 0, pinnedBytes = 0, downloads = 0, downloadedBytes = 0;
  int64_t sentBytes = 0; // to other devices

  static Book &shared();
  void addKernel(const std::string &name, int64_t bytes);
  void addSync();
  void report(FILE *file);
  void reset();
  // Records the counts so far and the peak since the previous mark. Programs that read a device's memory statistics, or
  // reset them, so divide a report into phases.
  void mark(c10::DeviceIndex index, bool isReset);

private:
  std::vector<std::string> marks;
  void write(FILE *file);
};

// The operation that this thread runs, for the log of peaks.
const char *&currentOperation();

inline int64_t byteCount(const Tensor &tensor) { return tensor.defined() ? tensor.numel() * tensor.element_size() : 0; }

// Kernels run below autograd: their inputs are plain tensors of the CPU.
using BelowAutograd = c10::impl::ExcludeDispatchKeyGuard;
inline auto autogradKeys() { return c10::autograd_dispatch_keyset_with_ADInplaceOrView; }

} // namespace pretend
