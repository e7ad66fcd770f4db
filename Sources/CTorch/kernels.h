// Shared parts of the kernels: threads, vector instructions, and checks of tensors.

#ifndef CTORCH_KERNELS_H
#define CTORCH_KERNELS_H

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <algorithm>

// The interface of libtorch's thread pool. It is weak: if libtorch was built with another pool, the
// kernels run on one thread.
extern "C" {
__attribute__((weak)) void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
__attribute__((weak)) int omp_get_thread_num(void);
__attribute__((weak)) int omp_get_num_threads(void);
}

#if defined(__x86_64__)
#define VECTORIZED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORIZED
#endif

namespace ctorch {

/// Calls `body(first, last)` for parts of 0 ..< rows, on several threads.
template <class Body> void forRows(int64_t rows, int64_t width, Body body) {
  const int64_t useful = std::max<int64_t>(1, rows * width / 32768);
  const int64_t threads = std::min<int64_t>({at::get_num_threads(), useful, rows});
  if (threads <= 1 || !GOMP_parallel || !omp_get_thread_num || !omp_get_num_threads || at::in_parallel_region()) {
    body(0, rows);
    return;
  }
  struct Work {
    int64_t rows;
    Body &body;
  } work{rows, body};
  GOMP_parallel(
      [](void *data) {
        auto &work = *static_cast<Work *>(data);
        const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const int64_t first = work.rows * thread / threads, last = work.rows * (thread + 1) / threads;
        if (first < last)
          work.body(first, last);
      },
      &work, static_cast<unsigned>(threads), 0);
}

/// Whether all tensors are float32 on the CPU, outside of autocast.
template <class... Tensors> bool isPlain(const Tensors &...tensors) {
  const auto plain = [](const at::Tensor &t) { return !t.defined() || (t.is_cpu() && t.scalar_type() == at::kFloat); };
  return (plain(tensors) && ...) && !at::autocast::is_autocast_enabled(at::kCPU);
}

inline bool isDifferentiated(const at::Tensor &tensor) { return tensor.defined() && tensor.requires_grad(); }

// Clang and the GCC that libtorch is built with name the typed accessors' symbols differently.
inline const float *numbers(const at::Tensor &tensor) { return static_cast<const float *>(tensor.const_data_ptr()); }
inline float *writable(at::Tensor &tensor) { return static_cast<float *>(tensor.mutable_data_ptr()); }

/// The elements of a bfloat16 tensor, as kernels see them.
using BFloat16Bits = uint16_t;
template <class T> const T *elements(const at::Tensor &tensor) { return static_cast<const T *>(tensor.const_data_ptr()); }
template <class T> T *writableElements(at::Tensor &tensor) { return static_cast<T *>(tensor.mutable_data_ptr()); }

/// Whether all tensors are bfloat16 on the CPU.
template <class... Tensors> bool isNarrow(const Tensors &...tensors) {
  const auto narrow = [](const at::Tensor &t) { return !t.defined() || (t.is_cpu() && t.scalar_type() == at::kBFloat16); };
  return (narrow(tensors) && ...);
}

} // namespace ctorch

#endif
