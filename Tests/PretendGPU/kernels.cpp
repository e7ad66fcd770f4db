#include "pretend_gpu.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <torch/library.h>

#include <set>

// Every operation of the device arrives in `fallback`, which runs it on the CPU with the data of its tensors, or, in
// null mode, asks libtorch's Meta kernels for the shapes of the results only.

namespace pretend {
namespace {

using c10::IValue;
using Stack = torch::jit::Stack;

constexpr int64_t kNullBytes = 1 << 16; // smaller operations are computed in null mode too, so that losses are numbers

// Operations whose kernels don't let a CPU tensor without dimensions stand among those of the device.
bool takesHostScalars(const std::string &name) {
  static const std::set<std::string> refuse{
      "aten::addmm",        "aten::mm",     "aten::bmm",          "aten::baddbmm", "aten::cat",   "aten::_fused_rms_norm", "aten::native_layer_norm",
      "aten::embedding",    "aten::gather", "aten::index_select", "aten::stack",   "aten::cudnn_convolution"};
  return !refuse.count(name);
}

bool isWritten(const c10::Argument &argument) { return argument.alias_info() && argument.alias_info()->isWrite(); }

// The arguments of a convolution that only cuDNN has.
struct CuDNNConvolution {
  bool isTransposed;
  Tensor input, weight;
  std::vector<int64_t> padding, outputPadding, stride, dilation;
  int64_t groups;

  static bool matches(const std::string &name) {
    return name == "aten::cudnn_convolution" || name == "aten::cudnn_convolution_transpose";
  }

  CuDNNConvolution(const std::string &name, c10::ArrayRef<IValue> arguments) : isTransposed(name == "aten::cudnn_convolution_transpose") {
    size_t next = 0;
    input = arguments[next++].toTensor();
    weight = arguments[next++].toTensor();
    padding = arguments[next++].toIntVector();
    outputPadding = isTransposed ? arguments[next++].toIntVector() : std::vector<int64_t>(padding.size(), 0);
    stride = arguments[next++].toIntVector();
    dilation = arguments[next++].toIntVector();
    groups = arguments[next++].toInt();
  }

  Tensor run() const {
    return at::convolution(input, weight, std::nullopt, stride, padding, dilation, isTransposed, outputPadding, groups);
  }

  // An empty result of the right shape and memory format.
  Tensor shape() const {
    std::vector<int64_t> size{input.size(0), isTransposed ? weight.size(1) * groups : weight.size(0)};
    for (size_t d = 0; d < padding.size(); ++d) {
      const int64_t in = input.size(d + 2), extent = dilation[d] * (weight.size(d + 2) - 1);
      size.push_back(isTransposed ? (in - 1) * stride[d] - 2 * padding[d] + extent + outputPadding[d] + 1
                                  : (in + 2 * padding[d] - extent - 1) / stride[d] + 1);
    }
    auto has = [&](at::MemoryFormat format) { return input.suggest_memory_format() == format || weight.suggest_memory_format() == format; };
    auto format = at::MemoryFormat::Contiguous;
    if (size.size() == 5 && has(at::MemoryFormat::ChannelsLast3d)) format = at::MemoryFormat::ChannelsLast3d;
    if (size.size() == 4 && has(at::MemoryFormat::ChannelsLast)) format = at::MemoryFormat::ChannelsLast;
    return at::empty(size, input.options(), format);
  }
};

template <class Transform> IValue transformed(const IValue &value, Transform transform) {
  if (value.isTensor()) return transform(value.toTensor());
  if (value.isTensorList()) {
    std::vector<Tensor> list;
    for (const Tensor &tensor : value.toTensorVector()) list.push_back(transform(tensor));
    return IValue(list);
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor> &tensor : value.toOptionalTensorList())
      list.push_back(tensor ? std::optional(transform(*tensor)) : std::nullopt);
    return IValue(list);
  }
  return value;
}

template <class Visit> void forEachTensor(const IValue &value, Visit visit) {
  transformed(value, [&](const Tensor &tensor) {
    visit(tensor);
    return tensor;
  });
}

// Replaces the memory of a device tensor that an operation has resized.
void replaceMemory(const Tensor &tensor, const Tensor &fresh, const Tensor &shape) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh.storage());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(shape.sizes(), shape.strides(), 0);
}

// ---- Null mode --------------------------------------------------------------------------------------

// Results of views and of reads by the host are real in null mode too.
bool isReal(const std::string &name) {
  static const std::set<std::string> real{"aten::as_strided", "aten::view",   "aten::_reshape_alias",      "aten::unfold",       "aten::alias",
                                          "aten::detach",     "aten::equal",  "aten::_local_scalar_dense", "aten::view_as_real", "aten::view_as_complex",
                                          "aten::_conj"};
  return real.count(name) > 0;
}

bool runNothing(const c10::OperatorHandle &op, Stack *stack, size_t begin) {
  const auto &schema = op.schema();
  const size_t count = schema.arguments().size();
  if (isReal(schema.name())) return false;
  int64_t bytes = 0;
  bool hasHostTensor = false, hasEmptyOutput = false, allWritten = true;
  for (size_t i = 0; i < count; ++i) {
    forEachTensor((*stack)[begin + i], [&](const Tensor &tensor) {
      if (isOnDevice(tensor)) bytes += byteCount(tensor);
      else if (tensor.defined() && tensor.dim() > 0) hasHostTensor = true;
    });
    const IValue &value = (*stack)[begin + i];
    if (isWritten(schema.arguments()[i]) && value.isTensor() && value.toTensor().numel() == 0) hasEmptyOutput = true;
  }
  if (hasHostTensor || bytes < kNullBytes) return false;
  const std::string name = c10::toString(schema.operator_name());
  for (const auto &result : schema.returns()) allWritten = allWritten && result.alias_info() && result.alias_info()->isWrite();

  if (allWritten && !hasEmptyOutput) { // in place, or into given outputs: they are left alone
    std::vector<IValue> outputs;
    for (const auto &result : schema.returns())
      for (size_t i = 0; i < count; ++i)
        if (isWritten(schema.arguments()[i]) &&
            schema.arguments()[i].alias_info()->beforeSets() == result.alias_info()->beforeSets()) {
          outputs.push_back((*stack)[begin + i]);
          break;
        }
    stack->resize(begin);
    for (auto &output : outputs) stack->push_back(output);
    Book::shared().addKernel(name, bytes);
    return true;
  }

  std::vector<std::pair<Tensor, Tensor>> metas; // device, Meta
  c10::OptionalDeviceGuard device;
  auto meta = [&](const Tensor &tensor) -> Tensor {
    if (!tensor.defined()) return tensor;
    if (isOnDevice(tensor) && metas.empty()) device.reset_device(tensor.device());
    Tensor result = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta));
    metas.push_back({tensor, result});
    return result;
  };
  Stack arguments;
  for (size_t i = 0; i < count; ++i) {
    const IValue &value = (*stack)[begin + i];
    arguments.push_back(value.isDevice() ? IValue(c10::Device(at::kMeta)) : transformed(value, meta));
  }
  try {
    BelowAutograd guard(autogradKeys());
    if (CuDNNConvolution::matches(schema.name())) {
      const Tensor result = CuDNNConvolution(schema.name(), arguments).shape();
      arguments.clear();
      arguments.push_back(result);
    } else {
      op.callBoxed(&arguments);
    }
  } catch (const c10::Error &) {
    return false; // an operation without a Meta kernel is computed
  }
  for (auto &[tensor, shape] : metas)
    if (isOnDevice(tensor) && tensor.sizes() != shape.sizes()) {
      const Tensor fresh = makeTensor(shape.sizes(), shape.strides(), shape.scalar_type());
      bytes += byteCount(fresh);
      replaceMemory(tensor, fresh, shape);
    }
  auto result = [&](const Tensor &tensor) -> Tensor {
    if (!tensor.defined()) return tensor;
    for (auto &[original, shape] : metas)
      if (shape.unsafeGetTensorImpl() == tensor.unsafeGetTensorImpl()) return original;
    bytes += byteCount(tensor);
    return makeTensor(tensor.sizes(), tensor.strides(), tensor.scalar_type());
  };
  stack->resize(begin);
  for (auto &value : arguments) stack->push_back(transformed(value, result));
  Book::shared().addKernel(name, bytes);
  return true;
}

// ---- Operations -------------------------------------------------------------------------------------

void fallback(const c10::OperatorHandle &op, Stack *stack) {
  const auto &schema = op.schema();
  const size_t count = schema.arguments().size(), begin = stack->size() - count;
  const char *before = currentOperation();
  currentOperation() = schema.name().c_str();
  struct Restore {
    const char *name;
    ~Restore() { currentOperation() = name; }
  } restore{before};

  const bool isView = isReal(schema.name()) && schema.name() != "aten::equal" && schema.name() != "aten::_local_scalar_dense";
  if (!isView)
    for (size_t i = 0; i < count; ++i)
      forEachTensor((*stack)[begin + i], [&](const Tensor &tensor) {
        if (isOnDevice(tensor)) checkAccess(tensor, isWritten(schema.arguments()[i]), schema.name().c_str());
      });
  if (isNull() && runNothing(op, stack, begin)) return;

  std::vector<std::pair<Tensor, Tensor>> aliases; // device, CPU
  int64_t bytes = 0;
  std::string mixed;
  c10::OptionalDeviceGuard device;
  auto take = [&](const Tensor &tensor) -> Tensor {
    if (!tensor.defined()) return tensor;
    if (!isOnDevice(tensor)) {
      TORCH_CHECK(tensor.device().is_cpu(), "unexpected device ", tensor.device());
      if (tensor.dim() > 0 || !takesHostScalars(schema.name())) mixed = c10::str("cpu ", tensor.sizes(), " ", tensor.scalar_type());
      return tensor;
    }
    bytes += byteCount(tensor);
    if (aliases.empty()) device.reset_device(tensor.device());
    else if (tensor.device() != aliases[0].first.device() && tensor.dim() > 0)
      mixed = c10::str(tensor.device(), " and ", aliases[0].first.device());
    aliases.push_back({tensor, onHost(tensor)});
    return aliases.back().second;
  };
  for (size_t i = 0; i < count; ++i) {
    IValue &value = (*stack)[begin + i];
    if (value.isOptionalTensorList()) {
      value = transformed(value, [&](const Tensor &tensor) { // indices may be on the CPU
        return isOnDevice(tensor) ? take(tensor) : tensor;
      });
    } else if (value.isDevice()) {
      value = IValue(c10::Device(at::kCPU));
    } else if (value.isGenerator() && value.toGenerator().defined()) {
      auto generator = value.toGenerator();
      TORCH_CHECK(generator.device().type() == kDevice, "Expected a 'cuda' device type for generator but found 'cpu'");
      auto copy = at::make_generator<at::CPUGeneratorImpl>(0);
      copy.set_current_seed(static_cast<at::CPUGeneratorImpl *>(generator.unsafeGetGeneratorImpl())->random64());
      value = IValue(copy);
    } else {
      value = transformed(value, take);
    }
  }
  TORCH_CHECK(mixed.empty(), "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (when calling ",
              schema.operator_name(), " with ", mixed, ")");
  {
    BelowAutograd guard(autogradKeys());
    const c10::ArrayRef<IValue> arguments(stack->data() + begin, count);
    std::optional<Tensor> result;
    if (CuDNNConvolution::matches(schema.name())) {
      result = CuDNNConvolution(schema.name(), arguments).run();
    } else if (schema.name() == "aten::_conv_depthwise2d") {
      const auto &a = arguments;
      result = at::convolution(a[0].toTensor(), a[1].toTensor(), a[3].toOptional<Tensor>(), a[4].toIntVector(), a[5].toIntVector(),
                               a[6].toIntVector(), false, {0, 0}, a[0].toTensor().size(1));
    }
    if (result) {
      stack->resize(begin);
      stack->push_back(*result);
    } else {
      op.callBoxed(stack);
    }
  }
  // Written arguments stand for themselves, views become views of the device's memory, everything else is new.
  for (auto &[tensor, alias] : aliases) {
    if (tensor.sizes() == alias.sizes() && tensor.strides() == alias.strides()) continue;
    if (alias.storage().data() && Arena::isData(alias.storage().data()))
      tensor.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    else
      replaceMemory(tensor, onDevice(alias), alias);
  }
  auto give = [&](const Tensor &tensor) -> Tensor {
    if (!tensor.defined() || !tensor.device().is_cpu()) return tensor;
    for (auto &[original, alias] : aliases)
      if (tensor.unsafeGetTensorImpl() == alias.unsafeGetTensorImpl()) return original;
    const void *data = tensor.has_storage() ? tensor.storage().data() : nullptr;
    if (data && Arena::isData(data))
      for (auto &[original, alias] : aliases)
        if (alias.storage().data() == data) {
          auto view = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(original.storage()), original.key_set(),
                                                               tensor.dtype());
          view.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
          bytes = 0;
          return view;
        }
    bytes += byteCount(tensor);
    const Tensor result = onDevice(tensor);
    checkAccess(result, true, schema.name().c_str());
    return result;
  };
  for (size_t i = begin; i < stack->size(); ++i) (*stack)[i] = transformed((*stack)[i], give);
  if (schema.name() == "aten::_local_scalar_dense") Book::shared().addSync();
  else if (bytes) Book::shared().addKernel(c10::toString(schema.operator_name()), bytes);
}

Tensor emptyTensor(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device> device,
                   std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, &allocator(), c10::DispatchKeySet(kKey), c10::dtype_or_default(type), format);
}

Tensor emptyStrided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                    std::optional<at::Device> device, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  return makeTensor(size, stride, c10::dtype_or_default(type));
}

Tensor &copy(Tensor &self, const Tensor &source, bool nonBlocking) {
  currentOperation() = "copy_";
  const int64_t bytes = byteCount(self);
  const bool isUpload = isOnDevice(self) && !isOnDevice(source), isDownload = !isOnDevice(self);
  const bool isAsynchronous = nonBlocking && (isUpload ? isPinned(source.const_data_ptr()) : isDownload && isPinned(self.const_data_ptr()));
  c10::OptionalDeviceGuard device(isOnDevice(self) ? self.device() : source.device());
  checkAccess(source, false, "copy_");
  checkAccess(self, true, "copy_");
  if (isUpload || isDownload) {
    auto &book = Book::shared();
    {
      std::lock_guard<std::mutex> lock(book.mutex);
      if (isDownload) ++book.downloads, book.downloadedBytes += bytes;
      else ++book.uploads, (isPinned(source.const_data_ptr()) ? book.pinnedBytes : book.pageableBytes) += bytes;
    }
    // CUDA stages a pageable copy that doesn't block, and waits for the rest of it.
    if (!isAsynchronous) {
      book.addSync();
      finishCopies(currentStream(currentDevice()));
    }
  } else {
    Book::shared().addKernel("aten::copy_", bytes + byteCount(source));
  }
  if (isNull() && bytes >= kNullBytes) {
    if (isDownload && self.is_contiguous()) memset(self.mutable_data_ptr(), 0, bytes);
    return self;
  }
  if (copiesAreLate() && isAsynchronous) {
    copyLate(self, source);
    return self;
  }
  BelowAutograd guard(autogradKeys());
  onHost(self).copy_(onHost(source));
  return self;
}

const Tensor &resize(const Tensor &self, at::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

Tensor &setStorage(Tensor &self, at::Storage storage, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return self;
}

// A product of 16-bit matrices in float32, which the CPU doesn't have.
Tensor wideProduct(const Tensor &a, const Tensor &b, at::ScalarType type) {
  constexpr auto name = "aten::mm.dtype";
  currentOperation() = name;
  TORCH_CHECK(isOnDevice(a) && isOnDevice(b), "Expected all tensors to be on the same device, but found at least two devices (when calling ",
              name, ")");
  TORCH_CHECK(type == at::kFloat && (a.scalar_type() == at::kHalf || a.scalar_type() == at::kBFloat16),
              "mm: out_dtype must be float32, for float16 or bfloat16");
  c10::DeviceGuard device(a.device());
  checkAccess(a, false, name);
  checkAccess(b, false, name);
  const Tensor result = makeTensor({a.size(0), b.size(1)}, {b.size(1), 1}, type);
  checkAccess(result, true, name);
  const int64_t bytes = byteCount(a) + byteCount(b) + byteCount(result);
  Book::shared().addKernel(name, bytes);
  if (isNull() && bytes >= kNullBytes) return result;
  BelowAutograd guard(autogradKeys());
  onHost(result).copy_(at::mm(onHost(a).to(type), onHost(b).to(type)));
  return result;
}

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", emptyTensor);
  library.impl("empty_strided", emptyStrided);
  library.impl("copy_", copy);
  library.impl("resize_", resize);
  library.impl("mm.dtype", wideProduct);
  library.impl("set_.source_Storage_storage_offset", setStorage);
  // CUDA's kernels take whole lists; without these the operations would be taken apart.
  for (const char *name : {"_foreach_norm.Scalar", "_foreach_mul_.Tensor", "_foreach_mul_.Scalar", "_foreach_mul.Scalar",
                           "_foreach_mul.List", "_foreach_add_.Scalar", "_foreach_add_.List", "_foreach_sub.List",
                           "_foreach_addcmul_.Scalar", "_foreach_addcdiv_.Scalar", "_foreach_lerp_.Scalar", "_foreach_sqrt",
                           "_foreach_sign", "_foreach_copy_"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

} // namespace
} // namespace pretend
