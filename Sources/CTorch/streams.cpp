// Streams and events of devices, through libtorch's interface that all devices share, so that this
// library is not linked to CUDA.

#include "boundary.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

using namespace ctorch;

struct ct_stream {
  c10::Stream value;
};

struct ct_event {
  c10::Event value;
};

ct_status ct_stream_new(ct_device target, ct_stream **out) {
  return boundary("stream", [&] {
    const at::Device on = device(target);
    TORCH_CHECK(!on.is_cpu(), "device type: the CPU has no streams");
    *out = new ct_stream{c10::impl::VirtualGuardImpl(on.type()).getStreamFromGlobalPool(on)};
  });
}

ct_status ct_stream_current(ct_device target, ct_stream **out) {
  return boundary("stream", [&] {
    const at::Device on = device(target);
    TORCH_CHECK(!on.is_cpu(), "device type: the CPU has no streams");
    *out = new ct_stream{c10::impl::VirtualGuardImpl(on.type()).getStream(on)};
  });
}

void ct_stream_free(ct_stream *stream) { delete stream; }

ct_status ct_stream_synchronize(const ct_stream *stream) {
  return boundary("synchronize", [&] { stream->value.synchronize(); });
}

ct_status ct_stream_record(const ct_stream *stream, ct_event **out) {
  return boundary("record", [&] {
    auto *event = new ct_event{c10::Event(stream->value.device_type())};
    *out = event;
    event->value.record(stream->value);
  });
}

ct_status ct_stream_wait(const ct_stream *stream, const ct_event *event) {
  return boundary("wait", [&] { event->value.block(stream->value); });
}

ct_status ct_event_is_done(const ct_event *event, bool *out) {
  return boundary("query", [&] { *out = event->value.query(); });
}

ct_status ct_event_synchronize(const ct_event *event) {
  return boundary("synchronize", [&] { event->value.synchronize(); });
}

void ct_event_free(ct_event *event) { delete event; }

ct_status ct_tensor_copy_on(const ct_stream *stream, ct_tensor *destination, const ct_tensor *source) {
  return boundary("copy", [&] {
    const c10::StreamGuard guard(stream->value);
    const c10::InferenceMode normal(false);
    const c10::NoGradGuard withoutGrad;
    destination->value.copy_(source->value, /*non_blocking=*/true);
  });
}

ct_status ct_empty_pinned(int64_t bytes, ct_tensor **out) {
  return boundary("empty", [&] {
    *out = own(at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true)));
  });
}

ct_status ct_tensor_view_bytes(const ct_tensor *bytes, int64_t offset, ct_dtype dtype, const int64_t *shape,
                               size_t rank, ct_tensor **out) {
  return boundary("view", [&] {
    // A view that inference makes may be used by a backward pass later.
    const c10::InferenceMode normal(false);
    const c10::NoGradGuard withoutGrad;
    const at::ScalarType type = scalarType(dtype);
    int64_t count = static_cast<int64_t>(c10::elementSize(type));
    for (const int64_t size : sizes(shape, rank))
      count *= size;
    *out = own(bytes->value.narrow(0, offset, count).view(type).view(sizes(shape, rank)));
  });
}
