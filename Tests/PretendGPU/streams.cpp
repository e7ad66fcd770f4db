#include "pretend_gpu.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <limits>

// Kernels run at once, in the order of the host. What another order of the streams could change is checked instead:
// each stream has a clock, an event carries the clocks that its stream knew, and waiting for an event takes them over
// (vector clocks, as a race detector for threads uses them).

namespace pretend {
namespace {

using Clocks = std::map<std::pair<c10::DeviceIndex, c10::StreamId>, uint64_t>;
using StreamName = std::pair<c10::DeviceIndex, c10::StreamId>;

struct LateCopy {
  Tensor destination, source;
  uint64_t number;
};

struct StreamState {
  Clocks known; // the last operation of every stream that is ordered before the next one here
  std::deque<LateCopy> copies;
  uint64_t copyCount = 0;
};

struct Access {
  StreamName stream;
  uint64_t time;
  std::string operation;
};

struct Accesses {
  std::optional<Access> write;
  std::vector<Access> reads;
};

struct Event {
  Clocks known;
  c10::Stream stream;
  uint64_t copyCount;
};

struct World {
  std::recursive_mutex mutex;
  std::map<StreamName, StreamState> streams;
  std::map<const void *, Accesses> accesses; // by the address of a storage
  c10::StreamId streamCount = 0;

  static World &shared() {
    static auto *world = new World;
    return *world;
  }
};

StreamName nameOf(c10::Stream stream) { return {stream.device_index(), stream.id()}; }

void merge(Clocks &clocks, const Clocks &others) {
  for (auto &[stream, time] : others) clocks[stream] = std::max(clocks[stream], time);
}

std::map<c10::DeviceIndex, c10::Stream> &currentStreams() {
  thread_local std::map<c10::DeviceIndex, c10::Stream> streams;
  return streams;
}

// The host waits for a stream: everything that any stream does from now on comes later.
void synchronize(c10::Stream stream) {
  finishCopies(stream);
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  const Clocks known = world.streams[nameOf(stream)].known;
  for (auto &[name, state] : world.streams) merge(state.known, known);
  Book::shared().addSync();
}

void synchronizeAll() {
  finishAllCopies();
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  Clocks all;
  for (auto &[name, state] : world.streams) merge(all, state.known);
  for (auto &[name, state] : world.streams) merge(state.known, all);
  Book::shared().addSync();
}

} // namespace

c10::DeviceIndex &currentDevice() {
  thread_local c10::DeviceIndex index = 0;
  return index;
}

c10::Stream currentStream(c10::DeviceIndex index) {
  auto &streams = currentStreams();
  auto found = streams.find(index);
  return found != streams.end() ? found->second : c10::Stream(c10::Stream::DEFAULT, c10::Device(kDevice, index));
}

void copyLate(const Tensor &destination, const Tensor &source) {
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  auto &state = world.streams[nameOf(currentStream(destination.device().is_cpu() ? source.device().index() : destination.device().index()))];
  Tensor place = onHost(destination);
  if (at::isFloatingType(place.scalar_type()) && place.element_size() > 1)
    place.fill_(std::numeric_limits<double>::quiet_NaN());
  else
    place.zero_();
  state.copies.push_back({destination, source, ++state.copyCount});
}

void finishCopies(c10::Stream stream, uint64_t upTo) {
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  auto &copies = world.streams[nameOf(stream)].copies;
  BelowAutograd guard(autogradKeys());
  while (!copies.empty() && copies.front().number <= upTo) {
    const LateCopy copy = std::move(copies.front()); // keeps both tensors in memory until it is done
    copies.pop_front();
    onHost(copy.destination).copy_(onHost(copy.source));
  }
}

void finishAllCopies() {
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  for (auto &[name, state] : world.streams)
    finishCopies(c10::Stream(c10::Stream::UNSAFE, c10::Device(kDevice, name.first), name.second));
}

void checkAccess(const Tensor &tensor, bool isWritten, const char *operation) {
  if (!isOnDevice(tensor) || !tensor.storage().data()) return;
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  const auto stream = currentStream(tensor.device().index());
  const StreamName name = nameOf(stream);
  auto &state = world.streams[name];
  finishCopies(stream); // a stream does its copies before its later kernels
  auto &accesses = world.accesses[tensor.storage().data()];
  auto check = [&](const Access &earlier, const char *what) {
    TORCH_CHECK(earlier.stream == name || state.known[earlier.stream] >= earlier.time, "pretend GPU: ", operation,
                " on stream ", name.second, what, earlier.operation, " on stream ", earlier.stream.second,
                ", which it does not wait for");
  };
  if (accesses.write) check(*accesses.write, isWritten ? " overwrites the result of " : " reads the result of ");
  if (isWritten)
    for (const auto &read : accesses.reads) check(read, " overwrites the input of ");
  const Access access{name, ++state.known[name], operation};
  if (isWritten) {
    accesses.write = access;
    accesses.reads.clear();
  } else {
    auto &reads = accesses.reads;
    reads.erase(std::remove_if(reads.begin(), reads.end(), [&](const Access &read) { return read.stream == name; }), reads.end());
    reads.push_back(access);
  }
}

void forgetAccesses(const void *address) {
  // CUDA's caching allocator gives memory back to the stream that it was allocated on, in order, so only the uses by
  // other streams could be overtaken. They must be ordered before the owner lets go.
  auto &world = World::shared();
  std::lock_guard<std::recursive_mutex> lock(world.mutex);
  world.accesses.erase(address);
}

namespace {

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kDevice; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before(kDevice, currentDevice());
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kDevice, currentDevice()}; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() < pretend::deviceCount(), "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) currentDevice() = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    return currentStream(device.index() < 0 ? currentDevice() : device.index());
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getNewStream(device, 0); }
  c10::Stream getNewStream(c10::Device device, int) const override {
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    return c10::Stream(c10::Stream::UNSAFE, device, ++world.streamCount);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = currentStream(stream.device_index());
    currentStreams().insert_or_assign(stream.device_index(), stream);
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return static_cast<c10::DeviceIndex>(pretend::deviceCount()); }

  void record(void **event, const c10::Stream &stream, const c10::DeviceIndex, const c10::EventFlag) const override {
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    auto &state = world.streams[nameOf(stream)];
    delete static_cast<Event *>(*event);
    *event = new Event{state.known, stream, state.copyCount};
  }
  void block(void *event, const c10::Stream &stream) const override {
    if (!event) return;
    auto &recorded = *static_cast<Event *>(event);
    finishCopies(recorded.stream, recorded.copyCount);
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    merge(world.streams[nameOf(stream)].known, recorded.known);
  }
  bool queryEvent(void *event) const override {
    // A late copy has not happened yet, however often one asks.
    if (!event) return true;
    auto &recorded = *static_cast<Event *>(event);
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    auto &copies = world.streams[nameOf(recorded.stream)].copies;
    return copies.empty() || copies.front().number > recorded.copyCount;
  }
  void destroyEvent(void *event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event *>(event); }
  void synchronizeEvent(void *event) const override {
    if (!event) return;
    auto &recorded = *static_cast<Event *>(event);
    finishCopies(recorded.stream, recorded.copyCount);
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    for (auto &[name, state] : world.streams) merge(state.known, recorded.known);
    Book::shared().addSync();
  }
  bool queryStream(const c10::Stream &stream) const override {
    auto &world = World::shared();
    std::lock_guard<std::recursive_mutex> lock(world.mutex);
    return world.streams[nameOf(stream)].copies.empty();
  }
  void synchronizeStream(const c10::Stream &stream) const override { synchronize(stream); }
  void synchronizeDevice(const c10::DeviceIndex) const override { synchronizeAll(); }
  void recordDataPtrOnStream(const c10::DataPtr &, const c10::Stream &) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);

struct DeviceGenerator final : at::CPUGeneratorImpl {
  explicit DeviceGenerator(c10::DeviceIndex index) : CPUGeneratorImpl(67280421310721ull) {
    device_ = c10::Device(kDevice, index);
    key_set_ = c10::DispatchKeySet(kKey);
  }
};

at::Generator makeGenerator(c10::DeviceIndex index) {
  return at::Generator(c10::make_intrusive<DeviceGenerator>(index < 0 ? currentDevice() : index));
}

const at::Generator &defaultGenerator(c10::DeviceIndex index) {
  static auto *generators = new std::map<c10::DeviceIndex, at::Generator>;
  if (index < 0) index = currentDevice();
  return generators->try_emplace(index, makeGenerator(index)).first->second;
}

} // namespace
} // namespace pretend

namespace at { // the macro of the registry pastes names that it looks for here

struct CUDAHooks : CUDAHooksInterface {
  CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  long versionCuDNN() const override { return 91900; }
  long versionRuntimeCuDNN() const override { return 91900; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return static_cast<DeviceIndex>(pretend::deviceCount()); }
  DeviceIndex current_device() const override { return pretend::currentDevice(); }
  DeviceIndex getCurrentDevice() const override { return pretend::currentDevice(); }
  int getNumGPUs() const override { return pretend::deviceCount(); }
  Device getDeviceFromPtr(void *address) const override {
    auto *arena = pretend::Arena::owner(address);
    TORCH_CHECK(arena, "The specified pointer resides on host memory and is not registered with any CUDA device.");
    return Device(kCUDA, arena->index());
  }
  bool isPinnedPtr(const void *address) const override { return pretend::isPinned(address); }
  Allocator *getPinnedMemoryAllocator() const override { return at::getHostAllocator(kCUDA); }
  const Generator &getDefaultGenerator(DeviceIndex index) const override { return pretend::defaultGenerator(index); }
  Generator getNewGenerator(DeviceIndex index) const override { return pretend::makeGenerator(index); }
  std::string showConfig() const override {
    // The flags of libtorch 2.11.0's wheel.
    const char *flags = getenv("PRETEND_GPU_FLAGS");
    return std::string("pretend GPU\n  - NVCC architecture flags: ") +
           (flags ? flags
                  : "-gencode;arch=compute_75,code=sm_75;-gencode;arch=compute_80,code=sm_80;-gencode;arch=compute_86,code=sm_86;"
                    "-gencode;arch=compute_90,code=sm_90;-gencode;arch=compute_100,code=sm_100;"
                    "-gencode;arch=compute_120,code=sm_120") + "\n";
  }
  void deviceSynchronize(DeviceIndex) const override { pretend::synchronizeAll(); }
};
REGISTER_CUDA_HOOKS(CUDAHooks);

} // namespace at
