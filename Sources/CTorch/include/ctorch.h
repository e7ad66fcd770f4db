// The C interface to the part of libtorch that swift-ltx needs.
//
// Ownership. A `ct_tensor` is a handle that its receiver owns: code that gets one through an `out`
// pointer must pass it to `ct_tensor_free` exactly once. Handles passed in are borrowed for the
// call. Arrays that a call allocates (`ct_tensor **out, size_t *count`) are freed with
// `ct_tensor_list_free`, which frees the array but not the handles in it.
//
// Errors. Every call that can fail returns a `ct_status`; anything but CT_OK leaves the out
// pointers unchanged, and `ct_last_error` describes the problem on this thread. No C++ exception
// ever leaves this library: all calls run inside the one boundary of `boundary.h`.
//
// Threads. Calls may come from any thread; two threads must not write to one tensor at once.
// Gradient mode, inference mode and autocast are states of the calling thread.
//
// Loading. The functions are in libCTorch.so, and a program reaches them through CTorchLoader's
// functions of the same names, which load that library, and with it libtorch, at the first call. If
// that fails, calls return CT_IO with a message if they return a status, and otherwise zero: no
// tensor exists then, and the first call to create one reports the reason.

#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Hidden, so that a program can't be linked to libCTorch.so by accident, which would load libtorch
// whenever the program starts.
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
  CT_NOT_IMPLEMENTED = 5, // no kernel for this device and dtype
  CT_IO = 6,              // a file, a memory map or a library to load
  CT_COLLECTIVE = 7,      // a problem in a process group
  CT_AUTOGRAD = 8,        // no graph to differentiate, or a graph already freed
  CT_RUNTIME = 9,         // anything else that libtorch reports
} ct_status;

/// The message of the last failed call on this thread; valid until the next failing call.
const char *ct_last_error(void);
/// The name of the operation that failed last on this thread, as in `aten::matmul`.
const char *ct_last_error_operation(void);
/// libtorch's version, "2.11.0".
const char *ct_version(void);
/// The path of libtorch_cpu.so that was loaded; empty if the loader doesn't say.
const char *ct_library_path(void);
/// The vector instructions that libtorch uses on this processor, such as "AVX512"; "DEFAULT" for
/// those that every processor has.
const char *ct_vector_instructions(void);

// MARK: Types

typedef struct ct_tensor ct_tensor;
typedef struct ct_generator ct_generator;

/// Dtypes; the values are those of libtorch's `c10::ScalarType`.
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

/// A number as an operand: integers remain integers so that integer tensors do too.
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

/// Creates a view of `bytes`, which must stay valid until the tensor's storage is freed and
/// `release(context)` is called, on whichever thread drops it last. Read-only memory must not be
/// written to through the tensor.
ct_status ct_tensor_from_memory(void *bytes, ct_dtype dtype, const int64_t *sizes, size_t rank, void *context,
                                void (*release)(void *context), ct_tensor **out);
/// Creates a CPU tensor with a copy of `bytes`, whose length is numel * element size.
ct_status ct_tensor_copy_from(const void *bytes, ct_dtype dtype, const int64_t *sizes, size_t rank, ct_tensor **out);
/// Copies the elements, in order, to `bytes`; `capacity` must be exactly the tensor's size in
/// bytes.
ct_status ct_tensor_copy_to(const ct_tensor *tensor, void *bytes, size_t capacity);
/// The address of the first element of a contiguous CPU tensor.
ct_status ct_tensor_data(const ct_tensor *tensor, void **out);
/// The value of a one-element tensor, as a double.
ct_status ct_tensor_item(const ct_tensor *tensor, double *out);

/// Converts the dtype and the device; returns the same tensor if nothing changes. `copy` forces a
/// new one.
ct_status ct_tensor_to(const ct_tensor *tensor, ct_dtype dtype, ct_device device, bool non_blocking, bool copy,
                       ct_tensor **out);
/// Moves the elements to another device, under the same handle. Other tensors that share the memory
/// keep it.
ct_status ct_tensor_move(ct_tensor *tensor, ct_device device);
ct_status ct_empty(const int64_t *sizes, size_t rank, ct_dtype dtype, ct_device device, ct_tensor **out);
ct_status ct_full(const int64_t *sizes, size_t rank, ct_scalar value, ct_dtype dtype, ct_device device,
                  ct_tensor **out);
ct_status ct_arange(ct_scalar start, ct_scalar end, ct_scalar step, ct_dtype dtype, ct_device device, ct_tensor **out);
ct_status ct_linspace(double start, double end, int64_t steps, ct_dtype dtype, ct_device device, ct_tensor **out);

// MARK: Layers that are one operation forward and one backward where that is faster (fused.cpp)

/// n = x / sqrt(mean(x^2) + eps) over the last dimension; the result is n * weight [D], n * (1 +
/// scale) + shift with scale and shift [B, T or 1, D] for x [B, T, D], or n. Unused arguments are
/// NULL.
ct_status ct_rms_norm_modulated(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *scale, const ct_tensor *shift,
                                double eps, ct_tensor **out);
/// Rotates the two halves of each head, with elements of the first half paired with those of the
/// second: x [B, T, D] and tables [B, H, T, D/H/2] give [B, H, T, D/H].
ct_status ct_rotate_split(const ct_tensor *x, const ct_tensor *cosines, const ct_tensor *sines, ct_tensor **out);
/// x W^T + bias (or NULL), where W is `elements` times `factors` ([1] or [outputs, 1], or NULL). W
/// is computed in float32 and rounded to `dtype` once; with `scales_product`, the elements are
/// converted to `dtype`, and their product with x is multiplied by the factors. The backward pass
/// dequantizes W again instead of keeping it.
ct_status ct_linear_quantized(const ct_tensor *x, const ct_tensor *elements, const ct_tensor *factors, ct_dtype dtype,
                              bool scales_product, const ct_tensor *bias, ct_tensor **out);
/// x W^T + bias (or NULL) + scale * (x A^T) B^T with A = `down` [R, inputs] and B = `up` [outputs,
/// R]; W is `weight` times `factors` (or NULL) in `dtype`, as above.
ct_status ct_linear_adapted(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *factors, ct_dtype dtype,
                            bool scales_product, const ct_tensor *bias, const ct_tensor *down, const ct_tensor *up, double scale,
                            ct_tensor **out);
/// Makes copies of tensors in a floating-point dtype, with one operation. `ct_linear_adapted` uses
/// the copies of `down` and `up`, as long as their elements don't change, until `ct_drop_casts`.
/// All tensors are on one device.
ct_status ct_cast_together(ct_tensor *const *tensors, size_t count, ct_dtype dtype);
void ct_drop_casts(ct_tensor *const *tensors, size_t count);
/// x + sin(alpha x)^2 * inverse_beta, computed at twice the sample rate (snake.cpp): x [B, C, N],
/// alpha and inverse_beta [C], the filters for upsampling and downsampling [12].
ct_status ct_antialiased_snake(const ct_tensor *x, const ct_tensor *alpha, const ct_tensor *inverse_beta, const ct_tensor *up,
                               const ct_tensor *down, ct_tensor **out);

typedef enum ct_attention_kernel {
  CT_ATTENTION_UNFUSED = 0, // whole score matrices in memory
  CT_ATTENTION_FLASH = 1,
  CT_ATTENTION_EFFICIENT = 2, // "memory-efficient" in libtorch's documentation
  CT_ATTENTION_CUDNN = 3,
} ct_attention_kernel;
/// Finds the kernel that scaled dot-product attention chooses for these tensors; `mask` may be
/// NULL.
ct_status ct_attention_choice(const ct_tensor *query, const ct_tensor *key, const ct_tensor *value, const ct_tensor *mask,
                              ct_attention_kernel *out);

/// The result of an attention, and what its backward pass needs besides queries, keys and values.
typedef struct ct_kept_attention ct_kept_attention;
/// Scaled dot-product attention without mask and without a graph. `kept` is NULL where libtorch has
/// no fused kernel for these tensors.
ct_status ct_attention_keep(const ct_tensor *query, const ct_tensor *key, const ct_tensor *value, ct_tensor **out,
                            ct_kept_attention **kept);
/// The kept result with the graph of its attention. The tensors are those that it was computed from.
ct_status ct_attention_reuse(const ct_kept_attention *kept, const ct_tensor *query, const ct_tensor *key, const ct_tensor *value,
                             ct_tensor **out);
void ct_kept_attention_free(ct_kept_attention *kept);

// MARK: Matrices in 4 or 2 bits per element (packed.cpp)

/// A matrix [rows, columns] whose elements, in order, form groups of `group` with a scale for each.
///
/// Planar codes are those of optimum-quanto: byte [r, i] of `codes` [R, group] holds element i of
/// the groups r, R + r, ... from its lowest bits up; an element is code * scale - shift, in the dtype
/// of the scales. Other codes have 4 bits, the first element of a pair in the upper ones; an element
/// is the value of its code times the scale, in float32, and the last group may be shorter.
typedef struct ct_packed_matrix {
  const ct_tensor *codes;  // uint8
  const ct_tensor *scales; // one for each group
  const ct_tensor *shifts; // one for each group of planar codes, or NULL
  const ct_tensor *values; // float32 [256, 2], the two values of a byte; NULL for planar codes
  const ct_tensor *tensor_scale; // float32 [1], multiplies all scales, or NULL
  int64_t rows, columns, group;
  int32_t bits;
  bool is_planar;
  ct_dtype dtype; // of the dequantized matrix
} ct_packed_matrix;
ct_status ct_dequantize_packed(ct_packed_matrix matrix, ct_tensor **out);
/// x W^T + bias (or NULL). The backward pass dequantizes W again instead of keeping it.
ct_status ct_linear_packed(const ct_tensor *x, ct_packed_matrix matrix, const ct_tensor *bias, ct_tensor **out);

// MARK: Blockwise 8-bit quantization, in blocks of 256 (adamw8bit.cpp)

/// Quantizes values relative to the largest of each block. `table`, uint8 [65536], has the codes of
/// evenly spaced values in -1 ... 1. Returns codes, uint8 with the shape of `x`, and the largest
/// absolute values, float32 [blocks].
ct_status ct_quantize_blockwise(const ct_tensor *x, const ct_tensor *table, ct_tensor **codes, ct_tensor **largest);
/// Dequantizes codes to float32; `map`, float32 [256], has the value of each code.
ct_status ct_dequantize_blockwise(const ct_tensor *codes, const ct_tensor *largest, const ct_tensor *map, ct_tensor **out);

/// An 8-bit moment of Adam: its codes and the largest value of each block, which a step updates in
/// place, and its map and table.
typedef struct ct_moment_8bit {
  ct_tensor *codes, *largest;
  const ct_tensor *map, *table;
} ct_moment_8bit;
/// Takes step number `step`, from 1, of Adam with decoupled weight decay, for `count` parameters.
/// Their moments are one tensor each, in which every parameter begins a new block.
ct_status ct_adamw_8bit(ct_tensor *const *parameters, ct_tensor *const *gradients, size_t count, ct_moment_8bit first,
                        ct_moment_8bit second, int64_t step, double learning_rate, double beta1, double beta2, double eps,
                        double weight_decay);

// MARK: Autograd

ct_status ct_tensor_set_requires_grad(ct_tensor *tensor, bool requires_grad);
/// Gradients of `outputs` with respect to `inputs`. `grad_outputs` is NULL (ones, for scalar
/// outputs) or has one entry per output; entries for scalars may be NULL. Inputs that the outputs
/// don't depend on give NULL. Nothing is accumulated in any tensor's `.grad`.
ct_status ct_grad(ct_tensor *const *outputs, size_t output_count, ct_tensor *const *inputs, size_t input_count,
                  ct_tensor *const *grad_outputs, bool retain_graph, ct_tensor **out);

bool ct_grad_mode_get(void);
void ct_grad_mode_set(bool enabled);
/// Begins inference mode: returns a guard to pass to `end` on the same thread, innermost first.
void *ct_inference_begin(void);
void ct_inference_end(void *guard);

typedef struct ct_autocast_state {
  bool enabled;
  ct_dtype dtype;
} ct_autocast_state;
/// The autocast state of this thread for a kind of device.
ct_autocast_state ct_autocast_get(ct_device_kind kind);
/// Sets the state. After the outermost autocast scope, call `ct_autocast_clear_cache`.
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
/// Standard normal or uniform [0,1) random numbers from `generator`, on its device.
ct_status ct_random(ct_distribution distribution, const int64_t *sizes, size_t rank, ct_dtype dtype,
                    ct_generator *generator, ct_tensor **out);
/// A permutation of 0 ..< count as int64, on the CPU.
ct_status ct_random_permutation(int64_t count, ct_generator *generator, ct_tensor **out);

// MARK: Threads, devices and memory

int32_t ct_thread_count(void);
/// Sets the number of threads that one operation may use, for the whole process.
void ct_set_thread_count(int32_t count);

/// Loads libtorch's CUDA part, which is next to libtorch_cpu. Fails if it is not installed, or if
/// an operation on the CPU has already set libtorch up without CUDA.
ct_status ct_cuda_load(void);
/// The number of usable CUDA devices; 0 if CUDA is not loaded.
int32_t ct_cuda_device_count(void);
/// Fails with the reason if CUDA is loaded, but there is no such device, or libtorch has no kernels
/// for it.
ct_status ct_cuda_require(int32_t index);

typedef struct ct_cuda_driver {
  int32_t runtime;   // the CUDA version that libtorch uses, 13000 for 13.0; 0 if it has no CUDA
  int32_t supported; // the newest CUDA version that the driver supports; 0 without a driver
  char version[64];  // the driver in the kernel, "580.65.06"; empty without one
} ct_cuda_driver;
/// Reads the versions of CUDA and of its driver. CUDA need not be loaded.
void ct_cuda_driver_find(ct_cuda_driver *out);

typedef struct ct_cuda_properties {
  char name[256];
  int32_t major, minor; // the compute capability; 0 if the driver can't be asked
  int32_t multiprocessors;
  int64_t free_bytes, total_bytes; // of the device, not only of this process
} ct_cuda_properties;
/// Describes a CUDA device that `ct_cuda_require` has accepted.
ct_status ct_cuda_properties_find(int32_t index, ct_cuda_properties *out);

/// Waits until a device has done everything that was queued.
ct_status ct_synchronize(ct_device device);

typedef struct ct_memory_statistics {
  int64_t live_bytes; // held by tensors now
  int64_t peak_bytes; // maximum of live_bytes since the last reset
} ct_memory_statistics;
/// The memory of a device's tensors: requested bytes, without the allocator's reserve.
ct_status ct_memory(ct_device device, ct_memory_statistics *out);
ct_status ct_memory_reset_peak(ct_device device);

// MARK: Streams (streams.cpp)

/// A queue of work on a device. Work of one stream runs in order; that of two streams is ordered
/// only by events.
typedef struct ct_stream ct_stream;
/// A point in the work of a stream.
typedef struct ct_event ct_event;

/// A stream beside the device's default one. Fails for the CPU, here and below.
ct_status ct_stream_new(ct_device device, ct_stream **out);
/// The stream that this thread's operations on the device are queued on.
ct_status ct_stream_current(ct_device device, ct_stream **out);
void ct_stream_free(ct_stream *stream);
/// Makes the host wait for everything that is queued on the stream.
ct_status ct_stream_synchronize(const ct_stream *stream);
/// Records the point after everything that is queued on the stream now.
ct_status ct_stream_record(const ct_stream *stream, ct_event **out);
/// Makes all work that is queued on the stream from now on wait for the event. The host does not
/// wait.
ct_status ct_stream_wait(const ct_stream *stream, const ct_event *event);
ct_status ct_event_is_done(const ct_event *event, bool *out);
/// Makes the host wait for the event.
ct_status ct_event_synchronize(const ct_event *event);
void ct_event_free(ct_event *event);

/// Copies the elements on a stream. Neither the host nor other streams wait for the copy if the
/// host's memory is pinned.
ct_status ct_tensor_copy_on(const ct_stream *stream, ct_tensor *destination, const ct_tensor *source);
/// Page-locked host memory, as a uint8 tensor.
ct_status ct_empty_pinned(int64_t bytes, ct_tensor **out);
/// A view of a part of a uint8 tensor [N] with another dtype and shape. `offset` is a multiple of
/// the dtype's size.
ct_status ct_tensor_view_bytes(const ct_tensor *bytes, int64_t offset, ct_dtype dtype, const int64_t *sizes,
                               size_t rank, ct_tensor **out);

// MARK: Process groups (distributed.cpp)

typedef struct ct_store ct_store;
typedef struct ct_process_group ct_process_group;

/// Connects to the key-value store where `size` processes meet; the owner of the handle frees it
/// with `ct_store_free`. The process with `listens` serves the store as long as it keeps the handle
/// (port 0: any free port); the others connect to `host` and `port`. Keys begin with `prefix`, so
/// that groups can share a store. Errors are CT_COLLECTIVE here and below.
ct_status ct_store_connect(const char *host, uint16_t port, bool listens, int32_t size, const char *prefix,
                           int64_t timeout_ms, ct_store **out);
uint16_t ct_store_port(const ct_store *store);
/// Stores `size` bytes under a key.
ct_status ct_store_set(ct_store *store, const char *key, const uint8_t *bytes, size_t size);
/// Writes the number of bytes under a key to `size`, or -1 if there are none, and the first
/// `capacity` of them to `bytes`. Does not wait for the key.
ct_status ct_store_get(ct_store *store, const char *key, uint8_t *bytes, size_t capacity, int64_t *size);
void ct_store_free(ct_store *store);

/// Joins the processes that met in `store` (on `host`) to a group for CPU tensors; the owner of the
/// handle frees it with `ct_process_group_free`. All processes call the collectives below in the
/// same order. A collective fails if it takes longer than `timeout_ms` or a peer has ended; the
/// group can't be used after that.
ct_status ct_process_group_gloo(ct_store *store, const char *host, int32_t rank, int32_t size, int64_t join_timeout_ms,
                                int64_t timeout_ms, ct_process_group **out);
/// Connects the GPU of this process to those of all others in the group, which must do the same, so
/// that the collectives accept tensors of that GPU. They then travel without the host.
/// `ct_device_collectives_load` must have succeeded.
ct_status ct_process_group_connect(ct_process_group *group, ct_store *store, ct_device device);
/// Ends the collectives between GPUs that wait for other processes. The group can't be used after
/// that. May be called while another thread waits.
ct_status ct_process_group_abort(ct_process_group *group);
void ct_process_group_free(ct_process_group *group);

/// Loads libCTorchCUDA.so, and writes the name and version of its implementation, such as
/// "NCCL 2.28.9". Fails with CT_IO and the reason.
ct_status ct_device_collectives_load(const char **name);

/// A collective that has been started. It keeps its tensors in memory.
typedef struct ct_work ct_work;
/// Waits for the end: the host for tensors of the CPU, this thread's current stream for those of a
/// GPU. Fails if this or an earlier collective of the group has failed, as far as that is known.
ct_status ct_work_wait(ct_work *work);
void ct_work_free(ct_work *work);

typedef enum ct_reduction { CT_SUM = 0, CT_MAX = 1 } ct_reduction;
/// Starts to replace the contiguous `tensor` of each rank by the sum or maximum over the ranks.
ct_status ct_all_reduce(ct_process_group *group, ct_tensor *tensor, ct_reduction reduction, ct_work **out);
/// Starts to copy the elements of rank `root` to the contiguous `tensor` of each other rank.
ct_status ct_broadcast(ct_process_group *group, ct_tensor *tensor, int32_t root, ct_work **out);
/// Starts to write the elements of all ranks, in rank order, to `result` [size, numel of tensor].
/// Both tensors are contiguous and have the same dtype.
ct_status ct_all_gather(ct_process_group *group, const ct_tensor *tensor, ct_tensor *result, ct_work **out);
/// Starts to write the sum over the ranks of this rank's part of `tensor` to `result`. The parts are
/// in rank order and have the numel of `result`. Both tensors are contiguous and have the same dtype.
ct_status ct_reduce_scatter(ct_process_group *group, const ct_tensor *tensor, ct_tensor *result, ct_work **out);
/// Waits until all processes have called this.
ct_status ct_barrier(ct_process_group *group);

#ifdef __cplusplus
}
#endif

#include "../Generated/ctorch_ops.h"

#pragma GCC visibility pop

#endif
