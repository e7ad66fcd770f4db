// Process groups: a store where the ranks meet, and collectives between them.

#include "boundary.h"
#include "device_collectives.h"

// Gloo's headers come from Debian; its code is part of libtorch_cpu.so.
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <signal.h>

using namespace ctorch;

struct ct_store {
  c10::intrusive_ptr<c10d::Store> value;
  uint16_t port;
};

struct ct_process_group {
  c10::intrusive_ptr<c10d::Backend> value;
  std::chrono::milliseconds timeout;
  /// Exchanges tensors of GPUs; null if they can't be exchanged.
  c10::intrusive_ptr<c10d::Backend> device;
  std::atomic<bool> isAborted{false};

  c10d::Backend &backend(const at::Tensor &tensor) {
    TORCH_CHECK(tensor.is_cpu() || device, "the ranks of this group exchange only tensors of the CPU");
    return tensor.is_cpu() ? *value : *device;
  }
};

struct ct_work {
  c10::intrusive_ptr<c10d::Work> value;
  c10::intrusive_ptr<c10d::Backend> device;
};

namespace {

/// Gloo and the store throw many kinds of runtime errors. Everything except exhausted memory counts
/// as a failed collective.
template <class Body> ct_status collective(const char *operation, Body &&body) noexcept {
  const ct_status status = boundary(operation, body);
  if (status == CT_OK || status == CT_OUT_OF_MEMORY)
    return status;
  return record(CT_COLLECTIVE, operation, std::string(ct_last_error()));
}

bool isLoopback(const std::string &host) { return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0; }

/// Makes process-wide settings before the first group is created.
void prepareProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    // libtorch logs every attempt with a C++ backtrace; our error reports the final failure.
    if (!std::getenv("TORCH_CPP_LOG_LEVEL"))
      FLAGS_caffe2_log_level = c10::GLOG_FATAL;
    // libtorch's record of past collectives isn't safe if one process has several groups. It isn't
    // needed either.
    setenv("TORCH_FR_BUFFER_SIZE", "0", 0);
    // Writing to a peer that has ended must be an error, and not end this process.
    struct sigaction action {};
    if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL)
      signal(SIGPIPE, SIG_IGN);
  });
}

/// Waits until all ranks have reached the store, so that an error can name the missing ones.
void meet(c10d::Store &store, int rank, int size, std::chrono::milliseconds timeout) {
  const auto key = [](int other) { return "joined/" + std::to_string(other); };
  store.set(key(rank), "1");
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (int other = 0; other < size; ++other) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    try {
      store.wait({key(other)}, std::max(left, std::chrono::milliseconds(1)));
    } catch (const c10::DistStoreError &) {
      std::string missing;
      for (int absent = other; absent < size; ++absent)
        if (!store.check({key(absent)}))
          missing += (missing.empty() ? "" : ", ") + std::to_string(absent);
      C10_THROW_ERROR(DistStoreError, "of " + std::to_string(size) + " processes, these ranks did not join within " +
                                          std::to_string(timeout.count() / 1000.0).substr(0, 5) + " s: " + missing);
    }
  }
}

/// Throws if a collective between GPUs has failed, which none of them reports when it is waited for.
void requireSuccess(const c10::intrusive_ptr<c10d::Backend> &device) {
  TORCH_CHECK(!device || device->getError() == c10d::ErrorType::SUCCESS,
              "an exchange between GPUs has failed or took too long");
}

/// The elements as bytes. A view, so the tensor must be contiguous.
at::Tensor bytes(const at::Tensor &tensor) { return tensor.view({-1}).view(at::kByte); }

} // namespace

extern "C" {

ct_status ct_store_connect(const char *host, uint16_t port, bool listens, int32_t size, const char *prefix,
                           int64_t timeout_ms, ct_store **out) {
  return collective("store", [&] {
    prepareProcess();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = listens;
    options.numWorkers = static_cast<size_t>(size);
    options.timeout = std::chrono::milliseconds(timeout_ms);
    // `meet` waits instead, because it can report which ranks are missing.
    options.waitWorkers = false;
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    const uint16_t bound = store->getPort();
    *out = new ct_store{c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store)), bound};
  });
}

uint16_t ct_store_port(const ct_store *store) { return store->port; }

ct_status ct_store_set(ct_store *store, const char *key, const uint8_t *bytes, size_t size) {
  return collective("store_set", [&] { store->value->set(key, std::vector<uint8_t>(bytes, bytes + size)); });
}

ct_status ct_store_get(ct_store *store, const char *key, uint8_t *bytes, size_t capacity, int64_t *size) {
  return collective("store_get", [&] {
    *size = -1;
    if (!store->value->check({key}))
      return;
    const std::vector<uint8_t> found = store->value->get(key);
    std::copy_n(found.begin(), std::min(found.size(), capacity), bytes);
    *size = static_cast<int64_t>(found.size());
  });
}

void ct_store_free(ct_store *store) { delete store; }

ct_status ct_process_group_gloo(ct_store *store, const char *host, int32_t rank, int32_t size, int64_t join_timeout_ms,
                                int64_t timeout_ms, ct_process_group **out) {
  return collective("process_group", [&] {
    const std::chrono::milliseconds joining(join_timeout_ms);
    meet(*store->value, rank, size, joining);
    // GLOO_SOCKET_IFNAME selects the network interface. Without it, ranks that meet on this machine
    // use only this machine.
    auto options = c10d::ProcessGroupGloo::Options::create(joining);
    if (!std::getenv("GLOO_SOCKET_IFNAME") && isLoopback(host))
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host));
    else
      options = c10d::ProcessGroupGloo::Options::create_default(joining);
    *out = new ct_process_group{c10::make_intrusive<c10d::ProcessGroupGloo>(store->value, rank, size, options),
                                std::chrono::milliseconds(timeout_ms)};
  });
}

ct_status ct_process_group_connect(ct_process_group *group, ct_store *store, ct_device target) {
  return collective("process_group", [&] {
    group->device = deviceCollectives().connect(c10::make_intrusive<c10d::PrefixStore>("device", store->value),
                                                group->value->getRank(), group->value->getSize(), target.index,
                                                group->timeout);
  });
}

ct_status ct_process_group_abort(ct_process_group *group) {
  return collective("abort", [&] {
    if (!group->isAborted.exchange(true) && group->device)
      group->device->abort();
  });
}

void ct_process_group_free(ct_process_group *group) {
  // Whatever fails here, the group is gone. After an error, only aborting is sure not to wait for other ranks.
  boundary("process_group", [&] {
    if (!group->device || group->isAborted)
      return;
    if (group->device->getError() == c10d::ErrorType::SUCCESS)
      group->device->shutdown();
    else
      group->device->abort();
  });
  delete group;
}

ct_status ct_work_wait(ct_work *work) {
  return collective("collective", [&] {
    work->value->wait();
    requireSuccess(work->device);
  });
}

void ct_work_free(ct_work *work) { delete work; }

ct_status ct_all_reduce(ct_process_group *group, ct_tensor *tensor, ct_reduction reduction, ct_work **out) {
  return collective("all_reduce", [&] {
    c10d::AllreduceOptions options;
    options.reduceOp = reduction == CT_MAX ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    options.timeout = group->timeout;
    std::vector<at::Tensor> tensors{tensor->value};
    *out = new ct_work{group->backend(tensor->value).allreduce(tensors, options), group->device};
  });
}

ct_status ct_broadcast(ct_process_group *group, ct_tensor *tensor, int32_t root, ct_work **out) {
  return collective("broadcast", [&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.timeout = group->timeout;
    std::vector<at::Tensor> tensors{bytes(tensor->value)};
    *out = new ct_work{group->backend(tensor->value).broadcast(tensors, options), group->device};
  });
}

ct_status ct_all_gather(ct_process_group *group, const ct_tensor *tensor, ct_tensor *result, ct_work **out) {
  return collective("all_gather", [&] {
    c10d::AllgatherOptions options;
    options.timeout = group->timeout;
    at::Tensor all = bytes(result->value), mine = bytes(tensor->value);
    *out = new ct_work{group->backend(all)._allgather_base(all, mine, options), group->device};
  });
}

ct_status ct_reduce_scatter(ct_process_group *group, const ct_tensor *tensor, ct_tensor *result, ct_work **out) {
  return collective("reduce_scatter", [&] {
    c10d::ReduceScatterOptions options;
    options.timeout = group->timeout;
    at::Tensor all = tensor->value.view({-1}), mine = result->value.view({-1});
    *out = new ct_work{group->backend(all)._reduce_scatter_base(mine, all, options), group->device};
  });
}

ct_status ct_barrier(ct_process_group *group) {
  return collective("barrier", [&] {
    c10d::BarrierOptions options;
    options.timeout = group->timeout;
    group->value->barrier(options)->wait();
    requireSuccess(group->device);
  });
}
}
