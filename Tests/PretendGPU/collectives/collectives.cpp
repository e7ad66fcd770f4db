// A libCTorchCUDA.so for the pretend GPU: collectives between pretend GPUs in several processes of one machine. The data
// travels by Gloo; the order of streams, the counts and the failures are those of NCCL.

#include "../../../Sources/CTorch/device_collectives.h"
#include "../pretend_gpu.h"

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <limits>

namespace pretend {
namespace {

using c10d::Work;
using WorkPointer = c10::intrusive_ptr<Work>;

constexpr int64_t kNullBytes = 1 << 16; // as in kernels.cpp

// The end of a group's collectives: an error, or an abort.
struct End {
  std::mutex mutex;
  std::condition_variable changed;
  bool isAborted = false;
  std::atomic<bool> hasFailed{false};

  void abort() {
    std::lock_guard<std::mutex> lock(mutex);
    isAborted = true;
    hasFailed = true;
    changed.notify_all();
  }
  // A kernel of NCCL whose peer is gone runs until it is aborted.
  void hang() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return isAborted; });
  }
};

struct Collective final : Work {
  Collective(std::vector<Tensor> tensors, std::vector<Tensor> aliases, c10::Stream stream, WorkPointer work, std::shared_ptr<End> end)
      : tensors(std::move(tensors)), aliases(std::move(aliases)), done(kDevice), work(std::move(work)), end(std::move(end)) {
    done.record(stream);
  }

  ~Collective() override {
    // NCCL keeps the tensors of a collective that nobody waits for in memory until its end. That may never come.
    static auto *kept = new std::vector<std::vector<Tensor>>;
    static auto *mutex = new std::mutex;
    if (!work) return;
    std::lock_guard<std::mutex> lock(*mutex);
    kept->push_back(tensors);
  }

  // The current stream waits. Since kernels run at once, so does the host, but the program can't know that.
  bool wait(std::chrono::milliseconds) override {
    if (work) {
      try {
        work->wait();
      } catch (const std::exception &) {
        end->hang();
      }
      work.reset();
    }
    done.block(currentStream(tensors[0].device().index()));
    return true;
  }

  std::vector<Tensor> tensors, aliases; // in memory until the end
  c10::Event done;
  WorkPointer work;
  std::shared_ptr<End> end;
};

class Exchange final : public c10d::Backend {
public:
  Exchange(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, int device, std::chrono::milliseconds timeout)
      : Backend(rank, size), stream_(c10::impl::VirtualGuardImpl(kDevice).getStreamFromGlobalPool(
                                 c10::Device(kDevice, static_cast<c10::DeviceIndex>(device)), /*isHighPriority=*/true)),
        end_(std::make_shared<End>()) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    options->threads = 1; // one after the other, as on a stream
    gloo_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  const std::string getBackendName() const override { return "pretend NCCL"; }
  c10d::ErrorType getError() override { return end_->hasFailed ? c10d::ErrorType::COMM_ERROR : c10d::ErrorType::SUCCESS; }
  void abort() override { end_->abort(); }
  void shutdown() override {}

  WorkPointer allreduce(std::vector<Tensor> &tensors, const c10d::AllreduceOptions &options) override {
    const int64_t bytes = byteCount(tensors.at(0));
    return start("nccl::all_reduce", tensors[0], tensors[0], bytes, 2 * others(bytes), [&](Tensor, Tensor tensor) {
      std::vector<Tensor> list{tensor};
      return gloo_->allreduce(list, options);
    });
  }

  WorkPointer broadcast(std::vector<Tensor> &tensors, const c10d::BroadcastOptions &options) override {
    const int64_t bytes = byteCount(tensors.at(0));
    return start("nccl::broadcast", tensors[0], tensors[0], bytes, bytes, [&](Tensor, Tensor tensor) {
      std::vector<Tensor> list{tensor};
      return gloo_->broadcast(list, options);
    });
  }

  WorkPointer _allgather_base(Tensor &output, Tensor &input, const c10d::AllgatherOptions &options) override {
    return start("nccl::all_gather", input, output, byteCount(output), others(byteCount(output)), [&](Tensor in, Tensor out) {
      return gloo_->_allgather_base(out, in, options);
    });
  }

  WorkPointer _reduce_scatter_base(Tensor &output, Tensor &input, const c10d::ReduceScatterOptions &options) override {
    return start("nccl::reduce_scatter", input, output, byteCount(input), others(byteCount(input)), [&](Tensor in, Tensor out) {
      return gloo_->_reduce_scatter_base(out, in, options);
    });
  }

private:
  // The bytes that a rank sends in a ring if every part but one of a tensor passes it.
  int64_t others(int64_t bytes) const { return bytes * (getSize() - 1) / getSize(); }

  WorkPointer start(const char *name, const Tensor &input, const Tensor &output, int64_t bytes, int64_t sent,
                    const std::function<WorkPointer(Tensor, Tensor)> &body) {
    TORCH_CHECK(isOnDevice(input) && isOnDevice(output) && input.device() == stream_.device() && output.device() == stream_.device(),
                "pretend GPU: ", name, " of tensors on another device than ", stream_.device());
    TORCH_CHECK(input.is_contiguous() && output.is_contiguous(), "pretend GPU: ", name, " of a tensor that is not contiguous");
    TORCH_CHECK(!end_->hasFailed, "NCCL communicator was aborted");
    c10::Event ready(kDevice);
    ready.record(currentStream(stream_.device_index()));
    ready.block(stream_);
    {
      const c10::StreamGuard guard(stream_);
      checkAccess(input, false, name);
      checkAccess(output, true, name);
    }
    Book::shared().addKernel(name, bytes);
    {
      std::lock_guard<std::mutex> lock(Book::shared().mutex);
      Book::shared().sentBytes += sent;
    }
    const std::vector<Tensor> tensors{input, output}, aliases{onHost(input), onHost(output)};
    WorkPointer work;
    if (!isNull() || bytes < kNullBytes) {
      // Until the end, the result is unknown.
      BelowAutograd guard(autogradKeys());
      if (copiesAreLate() && !input.is_same(output) && at::isFloatingType(output.scalar_type()))
        aliases[1].fill_(std::numeric_limits<double>::quiet_NaN());
      work = body(aliases[0], input.is_same(output) ? aliases[0] : aliases[1]);
    }
    return c10::make_intrusive<Collective>(tensors, aliases, stream_, std::move(work), end_);
  }

  c10::Stream stream_;
  std::shared_ptr<End> end_;
  c10::intrusive_ptr<c10d::Backend> gloo_;
};

const char *name() { return "pretend NCCL"; }

c10::intrusive_ptr<c10d::Backend> connect(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, int device,
                                          std::chrono::milliseconds timeout) {
  return c10::make_intrusive<Exchange>(store, rank, size, device, timeout);
}

} // namespace
} // namespace pretend

extern "C" {
extern const char ctorch_device_collectives_version[];
extern const ctorch::DeviceCollectives ctorch_device_collectives;
const char ctorch_device_collectives_version[] = CTORCH_DEVICE_COLLECTIVES;
const ctorch::DeviceCollectives ctorch_device_collectives = {pretend::name, pretend::connect};
}
