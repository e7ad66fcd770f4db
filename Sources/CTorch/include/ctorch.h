// The C interface of libtorch, as far as swift-ltx needs it.
//
// Ownership. A `ct_tensor` is a handle that its receiver owns: whoever is given one through an
// `out` pointer must hand it to `ct_tensor_free` exactly once. Handles passed in are borrowed for
// the call. Arrays that a call allocates (`ct_tensor **out, size_t *count`) are freed with
// `ct_tensor_list_free`, which frees the array and not the handles in it.
//
// Errors. Every call that can fail returns a `ct_status`; anything but CT_OK leaves the out
// pointers untouched, and `ct_last_error` describes what went wrong on this thread. No C++
// exception ever leaves: all calls run inside the one boundary of `boundary.h`.
//
// Threads. Calls may come from any thread; two threads must not write to one tensor at once.
// Gradient mode, inference mode and autocast are states of the calling thread.
//
// Loading. The functions are in libCTorch.so, and a program reaches them through CTorchLoader's
// functions of the same names, which load that library and with it libtorch at the first call. If
// that fails, a `ct_status` is CT_IO with a message, and anything else is zero: no tensor exists
// then, and the first call to make one reports why.

#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Hidden, so that a program can't be linked to libCTorch.so by accident and load libtorch whenever
// it starts.
#pragma GCC visibility push(hidden)

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Status

typedef enum ct_status {
  CT_OK = 0,
  CT_OUT_OF_MEMORY = 1,
  CT_SHAPE = 2,           // sizes, ranks, dimensions or indices that don't fit together
  CT_DTYPE = 3,           // a dtype that the operation does not accept
  CT_DEVICE = 4,          // no such device, or tensors on different ones
  CT_NOT_IMPLEMENTED = 5, // no kernel for this device and type
  CT_IO = 6,              // files, memory maps, libraries to load
  CT_COLLECTIVE = 7,      // process groups
  CT_AUTOGRAD = 8,        // no graph to differentiate, or a graph already freed
  CT_RUNTIME = 9,         // anything else that libtorch reports
} ct_status;

/// The message of the last failed call on this thread; valid until the next failing call.
const char *ct_last_error(void);
/// The name of the operation that failed last on this thread, as in `aten::matmul`.
const char *ct_last_error_operation(void);
/// libtorch's version, "2.11.0".
const char *ct_version(void);

// MARK: Types

typedef struct ct_tensor ct_tensor;
typedef struct ct_generator ct_generator;

/// Element types; the numbers are libtorch's `c10::ScalarType`.
typedef enum ct_dtype {
  CT_UINT8 = 0,
  CT_INT8 = 1,
  CT_INT16 = 2,
  CT_INT32 = 3,
  CT_INT64 = 4,
  CT_FLOAT16 = 5,
  CT_FLOAT32 = 6,
  CT_FLOAT64 = 7,
  CT_BOOL = 11,
  CT_BFLOAT16 = 15,
  CT_FLOAT8_E5M2 = 23,
  CT_FLOAT8_E4M3FN = 24,
} ct_dtype;

typedef enum ct_device_kind { CT_CPU = 0, CT_CUDA = 1 } ct_device_kind;

typedef struct ct_device {
  ct_device_kind kind;
  int32_t index; // of the CUDA device; 0 for the CPU
} ct_device;

/// A number as an operation takes it: integers stay integers so that integer tensors do too.
typedef struct ct_scalar {
  bool is_integer;
  int64_t integer;
  double real;
} ct_scalar;

// MARK: Tensors

void ct_tensor_free(ct_tensor *tensor);
void ct_tensor_list_free(ct_tensor **list);

int64_t ct_tensor_dim(const ct_tensor *tensor);
/// Writes `ct_tensor_dim` sizes.
void ct_tensor_sizes(const ct_tensor *tensor, int64_t *out);
void ct_tensor_strides(const ct_tensor *tensor, int64_t *out);
int64_t ct_tensor_numel(const ct_tensor *tensor);
/// The dtype, or -1 for one that `ct_dtype` does not list.
int32_t ct_tensor_dtype(const ct_tensor *tensor);
ct_device ct_tensor_device(const ct_tensor *tensor);
bool ct_tensor_is_contiguous(const ct_tensor *tensor);
bool ct_tensor_requires_grad(const ct_tensor *tensor);
bool ct_tensor_is_leaf(const ct_tensor *tensor);
/// Whether both share one storage.
bool ct_tensor_shares_storage(const ct_tensor *a, const ct_tensor *b);

/// A view of `bytes` that are kept alive until the tensor's storage is freed, when
/// `release(context)` is called from whichever thread drops it last. The memory must not be written
/// to through the tensor if it is read-only.
ct_status ct_tensor_from_memory(void *bytes, ct_dtype dtype, const int64_t *sizes, size_t rank, void *context,
                                void (*release)(void *context), ct_tensor **out);
/// A new CPU tensor that holds a copy of `bytes` (numel * element size of them).
ct_status ct_tensor_copy_from(const void *bytes, ct_dtype dtype, const int64_t *sizes, size_t rank, ct_tensor **out);
/// Copies the elements, in order, into `bytes` (`capacity` bytes; must be exactly the tensor's
/// size).
ct_status ct_tensor_copy_to(const ct_tensor *tensor, void *bytes, size_t capacity);
/// The address of the first element of a contiguous CPU tensor.
ct_status ct_tensor_data(const ct_tensor *tensor, void **out);
/// The one element of a one-element tensor, as a double.
ct_status ct_tensor_item(const ct_tensor *tensor, double *out);

/// Converts the dtype and the device; returns the same tensor if nothing changes. `copy` forces
/// a new one.
ct_status ct_tensor_to(const ct_tensor *tensor, ct_dtype dtype, ct_device device, bool non_blocking, bool copy,
                       ct_tensor **out);
/// Moves the elements to another device, under the same handle. Other tensors that shared its
/// memory keep it.
ct_status ct_tensor_move(ct_tensor *tensor, ct_device device);
ct_status ct_empty(const int64_t *sizes, size_t rank, ct_dtype dtype, ct_device device, ct_tensor **out);
ct_status ct_full(const int64_t *sizes, size_t rank, ct_scalar value, ct_dtype dtype, ct_device device,
                  ct_tensor **out);
ct_status ct_arange(ct_scalar start, ct_scalar end, ct_scalar step, ct_dtype dtype, ct_device device, ct_tensor **out);
ct_status ct_linspace(double start, double end, int64_t steps, ct_dtype dtype, ct_device device, ct_tensor **out);

// MARK: Layers that are one operation forward and one backward where that is faster (fused.cpp)

/// n = x / sqrt(mean(x^2) + eps) over the last dimension; then n * weight [D], or n * (1 + scale) +
/// shift with scale and shift [B, T or 1, D] for x [B, T, D], or n. What is not used is NULL.
ct_status ct_rms_norm_modulated(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *scale, const ct_tensor *shift,
                                double eps, ct_tensor **out);
/// Rotates the first half of each head with the second: x [B, T, D], tables [B, H, T, D/H/2] to [B,
/// H, T, D/H].
ct_status ct_rotate_split(const ct_tensor *x, const ct_tensor *cosines, const ct_tensor *sines, ct_tensor **out);
/// x W^T + bias (or NULL), where W is `elements` times `factors` ([1] or [outputs, 1], or NULL) in
/// `dtype`: multiplied in float32 and rounded once, or, with `scales_product`, elements in `dtype`
/// whose product with x is multiplied. The backward pass expands W again instead of keeping it.
ct_status ct_linear_quantized(const ct_tensor *x, const ct_tensor *elements, const ct_tensor *factors, ct_dtype dtype,
                              bool scales_product, const ct_tensor *bias, ct_tensor **out);
/// x W^T + bias (or NULL) + scale * (x A^T) B^T with A = `down` [R, inputs] and B = `up` [outputs,
/// R], W as `weight` times `factors` (or NULL) in `dtype`.
ct_status ct_linear_adapted(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *factors, ct_dtype dtype,
                            const ct_tensor *bias, const ct_tensor *down, const ct_tensor *up, double scale, ct_tensor **out);
/// x + sin(alpha x)^2 * inverse_beta between a doubling and a halving of the number of samples
/// (snake.cpp): x [B, C, N], alpha and inverse_beta [C], the filters of both changes of the rate
/// [12].
ct_status ct_antialiased_snake(const ct_tensor *x, const ct_tensor *alpha, const ct_tensor *inverse_beta, const ct_tensor *up,
                               const ct_tensor *down, ct_tensor **out);

// MARK: Numbers in 8 bits, by blocks of 256 (adamw8bit.cpp)

/// Codes of numbers in a table of the 65,536 evenly spaced numbers in -1 ... 1, relative to the
/// largest of each block. `table` uint8 [65536]; to codes, uint8 shaped as `x`, and the largest
/// absolute numbers, float32 [blocks].
ct_status ct_quantize_blockwise(const ct_tensor *x, const ct_tensor *table, ct_tensor **codes, ct_tensor **largest);
/// The float32 numbers that codes stand for: `map` float32 [256].
ct_status ct_dequantize_blockwise(const ct_tensor *codes, const ct_tensor *largest, const ct_tensor *map, ct_tensor **out);

/// A moment of Adam in 8 bits: its codes and the blocks' largest numbers, which a step changes, and
/// their map and table.
typedef struct ct_moment_8bit {
  ct_tensor *codes, *largest;
  const ct_tensor *map, *table;
} ct_moment_8bit;
/// Step number `step`, from 1, of Adam with decoupled weight decay.
ct_status ct_adamw_8bit(ct_tensor *parameter, const ct_tensor *gradient, ct_moment_8bit first, ct_moment_8bit second, int64_t step,
                        double learning_rate, double beta1, double beta2, double eps, double weight_decay);

// MARK: Autograd

ct_status ct_tensor_set_requires_grad(ct_tensor *tensor, bool requires_grad);
/// Gradients of `outputs` with respect to `inputs`. `grad_outputs` is NULL (ones, for scalar
/// outputs) or has one entry per output, NULL entries allowed for scalars. Inputs that the outputs
/// don't depend on give NULL. Nothing is accumulated into any tensor's `.grad`.
ct_status ct_grad(ct_tensor *const *outputs, size_t output_count, ct_tensor *const *inputs, size_t input_count,
                  ct_tensor *const *grad_outputs, bool retain_graph, ct_tensor **out);

bool ct_grad_mode_get(void);
void ct_grad_mode_set(bool enabled);
/// Inference mode, scoped: `begin` returns a guard that `end` must be given on the same thread,
/// innermost first.
void *ct_inference_begin(void);
void ct_inference_end(void *guard);

typedef struct ct_autocast_state {
  bool enabled;
  ct_dtype dtype;
} ct_autocast_state;
/// The autocast state of this thread for a kind of device.
ct_autocast_state ct_autocast_get(ct_device_kind kind);
/// Sets it. Leaving the outermost autocast scope must be followed by `ct_autocast_clear_cache`.
ct_status ct_autocast_set(ct_device_kind kind, ct_autocast_state state);
void ct_autocast_clear_cache(void);

// MARK: Random numbers

ct_status ct_generator_new(ct_device device, uint64_t seed, ct_generator **out);
void ct_generator_free(ct_generator *generator);
void ct_generator_set_seed(ct_generator *generator, uint64_t seed);
/// The generator's state as a uint8 tensor.
ct_status ct_generator_get_state(const ct_generator *generator, ct_tensor **out);
ct_status ct_generator_set_state(ct_generator *generator, const ct_tensor *state);

typedef enum ct_distribution { CT_NORMAL = 0, CT_UNIFORM = 1 } ct_distribution;
/// Standard normal or uniform [0,1) numbers, drawn from `generator` on its device.
ct_status ct_random(ct_distribution distribution, const int64_t *sizes, size_t rank, ct_dtype dtype,
                    ct_generator *generator, ct_tensor **out);
/// A permutation of 0 ..< count as int64, on the CPU.
ct_status ct_random_permutation(int64_t count, ct_generator *generator, ct_tensor **out);

// MARK: Threads, devices and memory

int32_t ct_thread_count(void);
/// Threads that one operation may use; affects the whole process.
void ct_set_thread_count(int32_t count);

/// Loads libtorch's CUDA part from beside libtorch_cpu. Fails where it is not installed.
ct_status ct_cuda_load(void);
/// CUDA devices that can be used; 0 without CUDA.
int32_t ct_cuda_device_count(void);

typedef struct ct_memory_statistics {
  int64_t live_bytes; // held by tensors now
  int64_t peak_bytes; // most held at once since the last reset
} ct_memory_statistics;
/// Memory that tensors on the device hold: bytes asked for, not what an allocator keeps in reserve.
ct_status ct_memory(ct_device device, ct_memory_statistics *out);
ct_status ct_memory_reset_peak(ct_device device);

// MARK: Process groups (distributed.cpp)

typedef struct ct_store ct_store;
typedef struct ct_process_group ct_process_group;

/// A handle to the key-value store where `size` processes meet; its owner frees it with
/// `ct_store_free`. The process that `listens` serves it as long as it keeps the handle (port 0:
/// any free one); the others connect to `host` and `port`. Keys begin with `prefix`, so that groups
/// can share a store. Errors are CT_COLLECTIVE here and below.
ct_status ct_store_connect(const char *host, uint16_t port, bool listens, int32_t size, const char *prefix,
                           int64_t timeout_ms, ct_store **out);
uint16_t ct_store_port(const ct_store *store);
void ct_store_free(ct_store *store);

/// Joins the processes that met in `store` (on `host`) to a group whose tensors are on the CPU; its
/// owner frees it with `ct_process_group_free`. All of them call the collectives below in the same
/// order. A collective that is not done after `timeout_ms` fails, and so does one whose peer went
/// away; the group can't be used any more then.
ct_status ct_process_group_gloo(ct_store *store, const char *host, int32_t rank, int32_t size, int64_t join_timeout_ms,
                                int64_t timeout_ms, ct_process_group **out);
void ct_process_group_free(ct_process_group *group);

typedef enum ct_reduction { CT_SUM = 0, CT_MAX = 1 } ct_reduction;
/// Writes the sum or maximum over the ranks to the contiguous `tensor` of each.
ct_status ct_all_reduce(ct_process_group *group, ct_tensor *tensor, ct_reduction reduction);
/// Writes `root`'s elements to the contiguous `tensor` of each.
ct_status ct_broadcast(ct_process_group *group, ct_tensor *tensor, int32_t root);
/// Writes the elements of all ranks in their order to `out` [size, numel of tensor], both
/// contiguous and of one type.
ct_status ct_all_gather(ct_process_group *group, const ct_tensor *tensor, ct_tensor *out);
ct_status ct_barrier(ct_process_group *group);

#ifdef __cplusplus
}
#endif

#include "../Generated/ctorch_ops.h"

#pragma GCC visibility pop

#endif
