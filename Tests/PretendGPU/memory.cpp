#include "pretend_gpu.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/CachingHostAllocator.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <sys/mman.h>

namespace pretend {
namespace {

constexpr size_t kArenaBytes = size_t(1) << 40;
constexpr size_t kPage = 4096;

size_t environmentNumber(const char *name, size_t otherwise) {
  const char *text = getenv(name);
  return text ? strtoull(text, nullptr, 10) : otherwise;
}

char *reserve(int protection) {
  void *address = mmap(nullptr, kArenaBytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(address != MAP_FAILED, "the pretend GPU can't reserve its address space");
  return static_cast<char *>(address);
}

std::map<const char *, Arena *> &arenasByAddress(bool byData) {
  static auto *arenas = new std::map<const char *, Arena *>[2];
  return arenas[byData];
}

std::mutex &arenasMutex() {
  static auto *mutex = new std::mutex;
  return *mutex;
}

Arena *find(const void *address, bool byData) {
  std::lock_guard<std::mutex> lock(arenasMutex());
  auto &arenas = arenasByAddress(byData);
  auto after = arenas.upper_bound(static_cast<const char *>(address));
  if (after == arenas.begin()) return nullptr;
  auto [start, arena] = *std::prev(after);
  return static_cast<const char *>(address) < start + kArenaBytes ? arena : nullptr;
}

// A file that each new peak is written to, with the operation that was running.
FILE *peakLog() {
  static FILE *file = getenv("PRETEND_GPU_PEAKS") ? fopen(getenv("PRETEND_GPU_PEAKS"), "a") : nullptr;
  return file;
}

} // namespace

int deviceCount() {
  // CUDA finds no device with a driver that is older than itself.
  if (environmentNumber("PRETEND_GPU_DRIVER", 13000) < 13000) return 0;
  return static_cast<int>(environmentNumber("PRETEND_GPU_COUNT", 1));
}
size_t capacity() {
  const char *settings = getenv("PYTORCH_ALLOC_CONF");
  const char *fraction = settings ? strstr(settings, "per_process_memory_fraction:") : nullptr;
  if (fraction) return static_cast<size_t>(atof(strchr(fraction, ':') + 1) * totalBytes());
  return environmentNumber("PRETEND_GPU_BYTES", SIZE_MAX);
}
size_t totalBytes() { return environmentNumber("PRETEND_GPU_BYTES", 80'000'000'000); }
double capability() {
  const char *text = getenv("PRETEND_GPU_CAPABILITY");
  return text ? atof(text) : 9.0;
}
bool isNull() {
  static const bool value = getenv("PRETEND_GPU_NULL") != nullptr;
  return value;
}
bool copiesAreLate() {
  static const bool value = getenv("PRETEND_GPU_LATE") != nullptr;
  return value;
}

Arena &Arena::of(c10::DeviceIndex index) {
  static std::mutex mutex;
  static auto *arenas = new std::map<c10::DeviceIndex, Arena *>;
  std::lock_guard<std::mutex> lock(mutex);
  auto &arena = (*arenas)[index];
  if (!arena) arena = new Arena(index);
  return *arena;
}

Arena::Arena(c10::DeviceIndex index) : index_(index), device_(reserve(PROT_NONE)), data_(reserve(PROT_READ | PROT_WRITE)) {
  std::lock_guard<std::mutex> lock(arenasMutex());
  arenasByAddress(false)[device_] = this;
  arenasByAddress(true)[data_] = this;
}

Arena *Arena::owner(const void *address) { return find(address, false); }
bool Arena::isData(const void *address) { return find(address, true) != nullptr; }

void *Arena::allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  const size_t size = (bytes + 511) / 512 * 512; // as CUDA's allocator rounds
  std::lock_guard<std::mutex> lock(mutex_);
  TORCH_CHECK_WITH(OutOfMemoryError, live_ + size <= capacity(), "CUDA out of memory. Tried to allocate ", bytes >> 20,
                   " MiB. GPU ", int(index_), " has a total capacity of ", capacity() >> 20, " MiB of which ",
                   (capacity() - live_) >> 20, " MiB is free.");
  size_t offset;
  if (auto &list = freed_[size]; !list.empty()) {
    offset = list.back();
    list.pop_back();
  } else {
    offset = next_;
    next_ += size;
    TORCH_CHECK(next_ < kArenaBytes, "the pretend GPU is out of addresses");
  }
  sizes_[offset] = size;
  live_ += size;
  ++allocations_;
  peak_ = std::max(peak_, live_);
  phasePeak_ = std::max(phasePeak_, live_);
  if (peakLog() && live_ > logged_ + (size_t(256) << 20)) {
    logged_ = live_;
    fprintf(peakLog(), "%8.2f GB  +%zu MB  %s\n", live_ / 1e9, size >> 20, currentOperation());
    fflush(peakLog());
  }
  if (isNull()) { // whole pages are zero since they were given back; the ends may share pages with neighbors
    const size_t edge = std::min(size, std::max(kPage, size < size_t(1) << 18 ? size : kPage));
    memset(data_ + offset, 0, edge);
    memset(data_ + offset + size - edge, 0, edge);
  }
  return device_ + offset;
}

void Arena::release(void *address) {
  forgetAccesses(address);
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t offset = static_cast<char *>(address) - device_, size = sizes_[offset];
  sizes_.erase(offset);
  live_ -= size;
  freed_[size].push_back(offset);
  // Whole pages only: the kernel rounds a length up, which would clear a neighbor.
  const size_t first = (offset + kPage - 1) / kPage * kPage, last = (offset + size) / kPage * kPage;
  if (last > first + (1 << 16)) madvise(data_ + first, last - first, MADV_DONTNEED);
}

// ---- libtorch's allocators --------------------------------------------------------------------------

namespace {

struct DeviceMemory final : c10::DeviceAllocator {
  static void free(void *address) {
    if (address) Arena::owner(address)->release(address);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void *address = Arena::of(currentDevice()).allocate(bytes);
    return {address, address, &free, c10::Device(kDevice, currentDevice())};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void *to, const void *from, size_t bytes) const override {
    memcpy(Arena::owner(to)->data(to), Arena::owner(from)->data(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    c10::CachingDeviceAllocator::DeviceStats statistics;
    statistics.allocated_bytes[0].current = Arena::of(index).live();
    statistics.allocated_bytes[0].peak = Arena::of(index).peak();
    Book::shared().mark(index, false);
    return statistics;
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex index) override {
    return {totalBytes() - std::min(totalBytes(), Arena::of(index).live()), totalBytes()};
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex index) override {
    Book::shared().mark(index, true);
    Arena::of(index).resetPeak();
  }
};

struct PinnedMemory final : at::HostAllocator {
  std::map<const char *, size_t> sizes;
  std::mutex mutex;

  static PinnedMemory &shared() {
    static auto *memory = new PinnedMemory;
    return *memory;
  }
  static void free(void *address) {
    std::lock_guard<std::mutex> lock(shared().mutex);
    shared().sizes.erase(static_cast<const char *>(address));
    ::free(address);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void *address = nullptr;
    if (posix_memalign(&address, kPage, std::max<size_t>(bytes, 64))) throw std::bad_alloc();
    std::lock_guard<std::mutex> lock(mutex);
    sizes[static_cast<const char *>(address)] = std::max<size_t>(bytes, 64);
    return {address, address, &free, c10::Device(at::kCPU)};
  }
  bool owns(const void *address) {
    std::lock_guard<std::mutex> lock(mutex);
    auto after = sizes.upper_bound(static_cast<const char *>(address));
    if (after == sizes.begin()) return false;
    auto [start, size] = *std::prev(after);
    return static_cast<const char *>(address) < start + size;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void *to, const void *from, size_t bytes) const override { memcpy(to, from, bytes); }
  bool record_event(void *, void *, c10::Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};

const bool installed = [] {
  c10::SetAllocator(kDevice, &allocator(), 1);
  at::setHostAllocator(kDevice, &PinnedMemory::shared(), 1);
  return true;
}();

} // namespace

c10::DeviceAllocator &allocator() {
  static DeviceMemory memory;
  return memory;
}

bool isPinned(const void *address) { return PinnedMemory::shared().owns(address); }
bool isOnDevice(const Tensor &tensor) { return tensor.defined() && tensor.device().type() == kDevice; }

// ---- Tensors ----------------------------------------------------------------------------------------

Tensor makeTensor(at::IntArrayRef size, at::IntArrayRef stride, at::ScalarType type) {
  return at::detail::empty_strided_generic(size, stride, &allocator(), c10::DispatchKeySet(kKey), type);
}

Tensor onHost(const Tensor &tensor) {
  if (!isOnDevice(tensor)) return tensor;
  const auto &storage = tensor.storage();
  void *data = storage.data() ? Arena::owner(storage.data())->data(storage.data()) : nullptr;
  c10::Storage alias(c10::Storage::use_byte_size_t{}, storage.nbytes(), at::DataPtr(data, c10::Device(at::kCPU)),
                     c10::GetAllocator(at::kCPU), true);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(alias), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                         tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  return result;
}

Tensor onDevice(const Tensor &tensor) {
  if (!tensor.defined()) return tensor;
  const std::vector<int64_t> stride = tensor.strides().vec();
  Tensor result = makeTensor(tensor.sizes(), stride, tensor.scalar_type());
  onHost(result).copy_(tensor);
  return result;
}

} // namespace pretend
