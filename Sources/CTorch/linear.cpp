// Linear layers whose frozen matrix is quantized, or to which a low-rank adapter is added.
//
// An adapted layer is one function of autograd. Composed of libtorch's operations, it would copy
// its input to the adapter's dtype and back, which autocast then undoes, and pass over its output
// twice more.

#include "boundary.h"
#include "kernels.h"

#include <ATen/ATen.h>
#include <limits>
#include <torch/csrc/autograd/custom_function.h>

using namespace ctorch;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

namespace {

/// Tensors that may be undefined and are not differentiated. They are in a struct because autograd
/// only tracks tensors that are arguments themselves.
struct Constants {
  at::Tensor first, second, third;
};

/// Runs operations in the dtypes of their tensors.
using WithoutAutocast = c10::impl::ExcludeDispatchKeyGuard;

/// Dequantizes a matrix: `elements` times `factors` (one, or one per row) if they are defined.
at::Tensor expanded(const at::Tensor &elements, const at::Tensor &factors, at::ScalarType dtype) {
  return factors.defined() ? (elements.to(at::kFloat) * factors).to(dtype) : elements.to(dtype);
}

/// Multiplies a few rows by a matrix of int8 without a copy of the matrix in another dtype, which would
/// take several times as long as the product. Undefined for tensors that libtorch's kernel can't take.
///
/// - Returns: the products with the elements, without their factors.
at::Tensor int8Product(const at::Tensor &x, const at::Tensor &elements, at::ScalarType dtype) {
  // At about 64 rows, the kernel takes as long as a copy and a product.
  constexpr int64_t fewRows = 16;
  // It reads 16 elements at once from aligned addresses, without a rest, and counts in 32 bits. In
  // other dtypes than bfloat16 it uses no vectors.
  constexpr int64_t step = 16;
  const auto isAligned = [](const at::Tensor &t) { return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 32 == 0; };
  if (!x.is_cpu() || x.dim() == 0 || x.scalar_type() != at::kBFloat16 || dtype != at::kBFloat16 || !elements.is_cpu() ||
      elements.scalar_type() != at::kChar || elements.dim() != 2 || !elements.is_contiguous())
    return at::Tensor();
  const int64_t outputs = elements.size(0), inputs = elements.size(1);
  if (inputs == 0 || inputs % step != 0 || x.size(-1) != inputs || elements.numel() > std::numeric_limits<int32_t>::max() ||
      x.numel() == 0 || x.numel() > fewRows * inputs || !isAligned(elements))
    return at::Tensor();
  at::Tensor rows = x.reshape({-1, inputs}).contiguous();
  if (!isAligned(rows))
    rows = rows.clone();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = outputs;
  // Factors would be rounded to bfloat16 here.
  return at::_weight_int8pack_mm(rows, elements, at::ones({outputs}, rows.options())).view(shape);
}

/// A matrix that is dequantized again in the backward pass instead of being stored for it.
struct QuantizedLinear : torch::autograd::Function<QuantizedLinear> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &layer, at::ScalarType dtype,
                            bool scalesProduct) {
    const auto &[elements, bias, factors] = layer;
    context->save_for_backward({elements, factors});
    context->saved_data["dtype"] = static_cast<int64_t>(dtype);
    context->saved_data["input"] = static_cast<int64_t>(x.scalar_type());
    context->saved_data["scales product"] = scalesProduct;
    if (!scalesProduct)
      return at::linear(x, expanded(elements, factors, dtype), bias.defined() ? std::optional(bias) : std::nullopt);
    at::Tensor y = int8Product(x, elements, dtype);
    if (!y.defined())
      y = at::linear(x, elements.to(dtype));
    y.mul_(factors.flatten());
    return bias.defined() ? y.add_(bias) : y;
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &elements = saved[0], &factors = saved[1];
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const auto input = static_cast<at::ScalarType>(context->saved_data["input"].toInt());
    at::Tensor dy = gradients[0];
    at::Tensor matrix;
    if (context->saved_data["scales product"].toBool()) {
      at::Tensor scaled = at::empty_like(dy);
      dy = at::mul_out(scaled, dy, factors.flatten());
      matrix = elements.to(dy.scalar_type());
    } else {
      matrix = expanded(elements, factors, dtype).to(dy.scalar_type());
    }
    return {at::matmul(dy, matrix).to(input), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// The way in which an adapted layer is computed.
struct Arithmetic {
  /// The dtype of the frozen matrix's values.
  at::ScalarType values;
  /// The dtype of all products.
  at::ScalarType products;
  /// Multiplies the product by the matrix's factors instead of its elements.
  bool scalesProduct;
  double scale;
};

/// A product in float32. CUDA's kernels add and return float32 without rounding the result.
at::Tensor wideProduct(const at::Tensor &a, const at::Tensor &b) {
  if (a.scalar_type() == at::kFloat)
    return at::mm(a, b);
  return a.is_cuda() ? at::mm(a, b, at::kFloat) : at::mm(a, b).to(at::kFloat);
}

struct AdaptedLinear : torch::autograd::Function<AdaptedLinear> {
  /// - Parameter copies: `down` and `up` in the dtype of the products.
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &layer, const at::Tensor &down,
                            const at::Tensor &up, const Constants &copies, const Arithmetic &how) {
    const WithoutAutocast guard(at::autocast_dispatch_keyset);
    const auto &[elements, bias, factors] = layer;
    const at::Tensor rows = x.reshape({-1, x.size(-1)}).to(how.products);
    const at::Tensor matrix = matrixOf(elements, factors, how);
    const at::Tensor b = bias.defined() ? bias.to(how.products) : bias;
    at::Tensor y = b.defined() && !how.scalesProduct ? at::addmm(b, rows, matrix.t()) : at::mm(rows, matrix.t());
    if (how.scalesProduct) {
      const at::Tensor byOutput = factors.flatten();
      if (b.defined())
        at::addcmul_out(y, b, y, byOutput);
      else
        y.mul_(byOutput);
    }
    const at::Tensor inner = at::mm(rows, copies.first.t());
    y.addmm_(inner, copies.second.t(), 1, how.scale);
    context->save_for_backward({rows, inner, elements, factors, copies.first, copies.second});
    context->saved_data["values"] = static_cast<int64_t>(how.values);
    context->saved_data["products"] = static_cast<int64_t>(how.products);
    context->saved_data["scales product"] = how.scalesProduct;
    context->saved_data["scale"] = how.scale;
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["input"] = static_cast<int64_t>(x.scalar_type());
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = y.size(1);
    return y.view(shape);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const WithoutAutocast guard(at::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    auto &data = context->saved_data;
    const at::Tensor &rows = saved[0], &inner = saved[1], &elements = saved[2], &factors = saved[3], &down = saved[4], &up = saved[5];
    const auto dtype = [&](const char *name) { return static_cast<at::ScalarType>(data[name].toInt()); };
    const Arithmetic how{dtype("values"), dtype("products"), data["scales product"].toBool(), data["scale"].toDouble()};
    const at::Tensor dy = gradients[0].reshape({-1, gradients[0].size(-1)}).to(how.products);
    at::Tensor dInner = how.scale == 1 ? at::mm(dy, up) : at::empty({dy.size(0), up.size(1)}, dy.options());
    if (how.scale != 1)
      dInner.addmm_(dy, up, 0, how.scale); // scaled before it is rounded
    at::Tensor dx, dDown, dUp;
    if (context->needs_input_grad(0)) {
      at::Tensor scaled = dy;
      if (how.scalesProduct) {
        scaled = at::empty_like(dy);
        at::mul_out(scaled, dy, factors.flatten());
      }
      dx = at::mm(scaled, matrixOf(elements, factors, how));
      dx.addmm_(dInner, down);
      dx = dx.view(data["shape"].toIntVector()).to(dtype("input"));
    }
    if (context->needs_input_grad(1))
      dDown = wideProduct(dInner.t(), rows);
    if (context->needs_input_grad(2)) {
      dUp = wideProduct(dy.t(), inner);
      if (how.scale != 1)
        dUp.mul_(how.scale);
    }
    return {dx, at::Tensor(), dDown, dUp, at::Tensor(), at::Tensor()};
  }

private:
  static at::Tensor matrixOf(const at::Tensor &elements, const at::Tensor &factors, const Arithmetic &how) {
    return (how.scalesProduct ? elements : expanded(elements, factors, how.values)).to(how.products);
  }
};

/// The tensor in a dtype: the copy that `ct_cast_together` made, if it is still the tensor's.
at::Tensor castCopy(const ct_tensor &tensor, at::ScalarType dtype) {
  const at::Tensor &value = tensor.value, &copy = tensor.copy;
  if (value.scalar_type() == dtype)
    return value.detach();
  if (copy.defined() && copy.scalar_type() == dtype && copy.device() == value.device() && tensor.copied == value._version())
    return copy;
  return value.detach().to(dtype);
}

bool isWideOrNarrow(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf; }

} // namespace

extern "C" {

ct_status ct_cast_together(ct_tensor *const *tensors, size_t count, ct_dtype dtype_) {
  return boundary("cast", [&] {
    // So that products find aligned rows.
    constexpr int64_t alignment = 64;
    at::NoGradGuard noGrad;
    const at::ScalarType dtype = scalarType(dtype_);
    int64_t total = 0;
    for (size_t i = 0; i < count; ++i)
      total += (tensors[i]->value.numel() + alignment - 1) / alignment * alignment;
    if (total == 0)
      return;
    const at::Tensor all = at::empty({total}, tensors[0]->value.options().dtype(dtype).requires_grad(false));
    std::vector<at::Tensor> sources, copies;
    int64_t start = 0;
    for (size_t i = 0; i < count; ++i) {
      const at::Tensor &value = tensors[i]->value;
      sources.push_back(value.detach());
      copies.push_back(all.narrow(0, start, value.numel()).view(value.sizes()));
      start += (value.numel() + alignment - 1) / alignment * alignment;
    }
    at::_foreach_copy_(copies, sources);
    for (size_t i = 0; i < count; ++i) {
      tensors[i]->copy = copies[i];
      tensors[i]->copied = tensors[i]->value._version();
    }
  });
}

void ct_drop_casts(ct_tensor *const *tensors, size_t count) {
  for (size_t i = 0; i < count; ++i)
    tensors[i]->copy = at::Tensor();
}

ct_status ct_linear_quantized(const ct_tensor *x_, const ct_tensor *elements_, const ct_tensor *factors_, ct_dtype dtype,
                              bool scales_product, const ct_tensor *bias_, ct_tensor **out) {
  return boundary("linear", [&] {
    TORCH_CHECK(!scales_product || factors_, "linear: a product can't be scaled without factors");
    const Constants layer{elements_->value, optional(bias_), optional(factors_)};
    *out = own(QuantizedLinear::apply(x_->value, layer, scalarType(dtype), scales_product));
  });
}

ct_status ct_linear_adapted(const ct_tensor *x_, const ct_tensor *weight_, const ct_tensor *factors_, ct_dtype dtype_,
                            bool scales_product, const ct_tensor *bias_, const ct_tensor *down_, const ct_tensor *up_, double scale,
                            ct_tensor **out) {
  return boundary("linear", [&] {
    TORCH_CHECK(!scales_product || factors_, "linear: a product can't be scaled without factors");
    const at::Tensor &x = x_->value, &weight = weight_->value, &down = down_->value, &up = up_->value;
    const at::Tensor bias = optional(bias_), factors = optional(factors_);
    const at::ScalarType dtype = scalarType(dtype_);
    const auto device = x.device().type();
    const bool isAutocast = at::autocast::is_autocast_enabled(device);
    const at::ScalarType products = isAutocast ? at::autocast::get_autocast_dtype(device) : dtype;
    const auto fits = [&](const at::Tensor &t) {
      return !t.defined() || (isAutocast ? isWideOrNarrow(t.scalar_type()) : t.scalar_type() == products);
    };
    if (isWideOrNarrow(products) && isWideOrNarrow(dtype) && fits(x) && fits(bias) && fits(down) && fits(up) && x.dim() > 0 &&
        !isDifferentiated(weight) && !isDifferentiated(bias)) {
      const Constants copies{castCopy(*down_, products), castCopy(*up_, products), {}};
      *out = own(AdaptedLinear::apply(x, Constants{weight, bias, factors}, down, up, copies,
                                      Arithmetic{dtype, products, scales_product, scale}));
      return;
    }
    const bool isExpanded = !factors.defined() && weight.scalar_type() == dtype;
    const at::Tensor y = isExpanded ? at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt)
                                    : QuantizedLinear::apply(x, Constants{weight, bias, factors}, dtype, scales_product);
    const at::Tensor change = at::linear(at::linear(x.to(down.scalar_type()), down), up);
    *out = own((y + (scale == 1 ? change : change * scale)).to(y.scalar_type()));
  });
}
}
