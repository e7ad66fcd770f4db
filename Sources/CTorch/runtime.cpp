// Threads, devices, and the memory that tensors hold.

#include "boundary.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>
#include <cstring>
#include <malloc.h>

using namespace ctorch;

namespace {

// libtorch's CPU allocator keeps no statistics. This one does, and keeps freed blocks of up to 32
// MB mapped: a training step allocates the same sizes repeatedly, and returning them to the kernel
// each time costs a page fault per 4 kB at the next use.
class CountingAllocator final : public c10::Allocator {
public:
  CountingAllocator() {
    mallopt(M_MMAP_THRESHOLD, 32 << 20); // the maximum in glibc
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    mallopt(M_TOP_PAD, 16 << 20);
  }

  c10::DataPtr allocate(size_t size) override {
    // The size is stored in a header before the data, as long as libtorch's alignment.
    void *block;
    try {
      block = c10::alloc_cpu(size + c10::gAlignment);
    } catch (const c10::Error &) {
      block = nullptr;
    }
    TORCH_CHECK_WITH(OutOfMemoryError, block || size == 0, "out of memory: can't allocate ", size, " bytes on the CPU");
    *static_cast<size_t *>(block) = size;
    const int64_t live = liveBytes.fetch_add(static_cast<int64_t>(size)) + static_cast<int64_t>(size);
    int64_t peak = peakBytes.load();
    while (live > peak && !peakBytes.compare_exchange_weak(peak, live)) {
    }
    void *data = static_cast<char *>(block) + c10::gAlignment;
    return {data, data, &release, at::Device(at::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void *destination, const void *source, size_t count) const override {
    std::memcpy(destination, source, count);
  }

  static void release(void *data) {
    if (!data)
      return;
    void *block = static_cast<char *>(data) - c10::gAlignment;
    liveBytes.fetch_sub(static_cast<int64_t>(*static_cast<size_t *>(block)));
    c10::free_cpu(block);
  }

  static std::atomic<int64_t> liveBytes;
  static std::atomic<int64_t> peakBytes;
};

std::atomic<int64_t> CountingAllocator::liveBytes{0};
std::atomic<int64_t> CountingAllocator::peakBytes{0};

// Installed when the library is loaded, before any tensor can exist.
const bool installed = [] {
  static CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
  return true;
}();

c10::DeviceAllocator *cudaAllocator(ct_device target) {
  auto *allocator = dynamic_cast<c10::DeviceAllocator *>(c10::GetAllocator(at::kCUDA));
  TORCH_CHECK(allocator, "No CUDA device is in use");
  TORCH_CHECK(target.index >= 0 && target.index < ct_cuda_device_count(), "invalid device ordinal ", target.index);
  return allocator;
}

} // namespace

extern "C" {

int32_t ct_thread_count(void) { return at::get_num_threads(); }
void ct_set_thread_count(int32_t count) { at::set_num_threads(count); }

ct_status ct_memory(ct_device target, ct_memory_statistics *out) {
  return boundary("memory", [&] {
    if (target.kind == CT_CPU) {
      *out = {CountingAllocator::liveBytes.load(), CountingAllocator::peakBytes.load()};
      return;
    }
    const auto statistics =
        cudaAllocator(target)->getDeviceStats(static_cast<c10::DeviceIndex>(target.index)).allocated_bytes[0];
    *out = {statistics.current, statistics.peak};
  });
}

ct_status ct_memory_reset_peak(ct_device target) {
  return boundary("memory_reset_peak", [&] {
    if (target.kind == CT_CPU)
      CountingAllocator::peakBytes.store(CountingAllocator::liveBytes.load());
    else
      cudaAllocator(target)->resetPeakStats(static_cast<c10::DeviceIndex>(target.index));
  });
}
}
