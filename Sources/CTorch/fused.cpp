// Layers that libtorch computes in several operations, each with its own backward pass.
//
// libtorch has no one-pass RMS norm, rotation or adapted linear layer for the CPU, and together
// they take a third of a training step there. Each function here is the plain sequence of
// operations, replaced by the fused one if everything is float32 on the CPU and gradients are
// needed only for what the fused backward pass covers.

#include "boundary.h"
#include "kernels.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

using namespace ctorch;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

namespace {

// MARK: RMS norm

VECTORIZED void normalize(const float *x, const float *weight, const float *scale, const float *shift, float eps, int64_t width,
                          float *y, float *inverse) {
#pragma clang fp reassociate(on) contract(fast)
  float squares = 0;
  for (int64_t i = 0; i < width; ++i)
    squares += x[i] * x[i];
  const float r = 1 / std::sqrt(squares / static_cast<float>(width) + eps);
  *inverse = r;
  if (weight)
    for (int64_t i = 0; i < width; ++i)
      y[i] = x[i] * r * weight[i];
  else if (scale)
    for (int64_t i = 0; i < width; ++i)
      y[i] = x[i] * r * (1 + scale[i]) + shift[i];
  else
    for (int64_t i = 0; i < width; ++i)
      y[i] = x[i] * r;
}

/// With n = x * r and g = dy * factor: dx = r * (g - n * mean(g * n)).
VECTORIZED void normalizeBackward(const float *x, const float *weight, const float *scale, const float *dy, float r, int64_t width,
                                  float *dx) {
#pragma clang fp reassociate(on) contract(fast)
  float product = 0;
  if (weight)
    for (int64_t i = 0; i < width; ++i)
      product += (dx[i] = dy[i] * weight[i]) * x[i];
  else if (scale)
    for (int64_t i = 0; i < width; ++i)
      product += (dx[i] = dy[i] * (1 + scale[i])) * x[i];
  else
    for (int64_t i = 0; i < width; ++i)
      product += (dx[i] = dy[i]) * x[i];
  const float mean = product * r * r / static_cast<float>(width);
  for (int64_t i = 0; i < width; ++i)
    dx[i] = r * (dx[i] - x[i] * mean);
}

/// The rows of a tensor [B, T or 1, D], for row b * T + t.
struct Rows {
  const float *data = nullptr;
  int64_t tokens = 1, batchStride = 0, tokenStride = 0;

  Rows(const at::Tensor &t, int64_t tokens) : tokens(tokens) {
    if (!t.defined())
      return;
    data = numbers(t);
    batchStride = t.size(0) == 1 ? 0 : t.stride(0);
    tokenStride = t.size(1) == 1 ? 0 : t.stride(1);
  }

  const float *operator[](int64_t row) const {
    return data ? data + row / tokens * batchStride + row % tokens * tokenStride : nullptr;
  }
};

/// Tensors that may be undefined and are not differentiated. They are in a struct because autograd
/// only tracks tensors that are arguments themselves.
struct Constants {
  at::Tensor first, second, third;
};

struct RMSNorm : torch::autograd::Function<RMSNorm> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &given, const Constants &factors, double eps) {
    const auto &[weight, scale, shift] = factors;
    const at::Tensor x = given.contiguous();
    const int64_t width = x.size(-1), rows = x.numel() / width, tokens = x.dim() > 1 ? x.size(-2) : 1;
    at::Tensor y = at::empty_like(x), inverse = at::empty({rows}, x.options());
    const float *in = numbers(x), *w = weight.defined() ? numbers(weight) : nullptr;
    float *out = writable(y), *inverses = writable(inverse);
    const Rows scales(scale, tokens), shifts(shift, tokens);
    forRows(rows, width, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        normalize(in + row * width, w, scales[row], shifts[row], static_cast<float>(eps), width, out + row * width, inverses + row);
    });
    context->save_for_backward({x, weight, scale, inverse});
    return y;
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2], &inverse = saved[3];
    const at::Tensor dy = gradients[0].contiguous();
    const int64_t width = x.size(-1), rows = x.numel() / width, tokens = x.dim() > 1 ? x.size(-2) : 1;
    at::Tensor dx = at::empty_like(x);
    const float *in = numbers(x), *w = weight.defined() ? numbers(weight) : nullptr;
    const float *dIn = numbers(dy), *inverses = numbers(inverse);
    float *out = writable(dx);
    const Rows scales(scale, tokens);
    forRows(rows, width, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        normalizeBackward(in + row * width, w, scales[row], dIn + row * width, inverses[row], width, out + row * width);
    });
    return {dx, at::Tensor(), at::Tensor()};
  }
};

bool isRowsOf(const at::Tensor &rows, const at::Tensor &x) {
  return rows.dim() == 3 && x.dim() == 3 && rows.size(2) == x.size(2) && rows.stride(2) == 1 &&
         (rows.size(1) == 1 || rows.size(1) == x.size(1)) && (rows.size(0) == 1 || rows.size(0) == x.size(0));
}

// MARK: Rotary positions

/// Rotates [first, second] of each head of a token to [first * cos - second * sin, second * cos +
/// first * sin].
VECTORIZED void rotate(const float *x, const float *cos, const float *sin, float sign, int64_t heads, int64_t half, float *y) {
#pragma clang fp contract(fast)
  for (int64_t head = 0; head < heads; ++head, x += 2 * half, y += 2 * half, cos += half, sin += half)
    for (int64_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i], s = sin[i] * sign;
      y[i] = a * cos[i] - b * s;
      y[half + i] = b * cos[i] + a * s;
    }
}

/// x [B, T, D], tables [B, T, D/2], all contiguous; `sign` -1 rotates back.
at::Tensor rotated(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, float sign, int64_t heads) {
  const int64_t width = x.size(2), rows = x.numel() / width, half = width / heads / 2;
  at::Tensor y = at::empty_like(x);
  const float *in = numbers(x), *c = numbers(cos), *s = numbers(sin);
  float *out = writable(y);
  forRows(rows, width, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      rotate(in + row * width, c + row * (width / 2), s + row * (width / 2), sign, heads, half, out + row * width);
  });
  return y;
}

struct Rotation : torch::autograd::Function<Rotation> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &tables, int64_t heads) {
    const auto &[cos, sin, none] = tables;
    context->save_for_backward({cos, sin});
    context->saved_data["heads"] = heads;
    return rotated(x.contiguous(), cos, sin, 1, heads).unflatten(-1, {heads, -1}).transpose(1, 2);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].transpose(1, 2).flatten(2, 3).contiguous();
    return {rotated(dy, saved[0], saved[1], -1, context->saved_data["heads"].toInt()), at::Tensor(), at::Tensor()};
  }
};

// MARK: Linear layers with adapters, and quantized ones

/// Dequantizes a matrix: `elements` times `factors` (one, or one per row) if they are defined.
at::Tensor expanded(const at::Tensor &elements, const at::Tensor &factors, at::ScalarType dtype) {
  return factors.defined() ? (elements.to(at::kFloat) * factors).to(dtype) : elements.to(dtype);
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
    const at::Tensor product = at::linear(x, elements.to(dtype));
    const at::Tensor y = (product * factors.flatten()).to(product.scalar_type());
    return bias.defined() ? (y + bias).to(y.scalar_type()) : y;
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &elements = saved[0], &factors = saved[1];
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const auto input = static_cast<at::ScalarType>(context->saved_data["input"].toInt());
    at::Tensor dy = gradients[0];
    at::Tensor matrix;
    if (context->saved_data["scales product"].toBool()) {
      dy = (dy * factors.flatten()).to(dy.scalar_type());
      matrix = elements.to(dy.scalar_type());
    } else {
      matrix = expanded(elements, factors, dtype).to(dy.scalar_type());
    }
    return {at::matmul(dy, matrix).to(input), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

struct AdaptedLinear : torch::autograd::Function<AdaptedLinear> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &layer, const at::Tensor &down,
                            const at::Tensor &up, double scale) {
    const auto &[elements, bias, factors] = layer;
    const at::Tensor weight = expanded(elements, factors, at::kFloat);
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    at::Tensor y = bias.defined() ? at::addmm(bias, rows, weight.t()) : at::mm(rows, weight.t());
    const at::Tensor inner = at::mm(rows, down.t());
    y.addmm_(inner, up.t(), 1, scale);
    context->save_for_backward({rows, inner, elements, factors, down, up});
    context->saved_data["scale"] = scale;
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    context->saved_data["shape"] = x.sizes().vec();
    return y.view(shape);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &inner = saved[1], &down = saved[4], &up = saved[5];
    const double scale = context->saved_data["scale"].toDouble();
    const at::Tensor dy = gradients[0].reshape({-1, gradients[0].size(-1)});
    at::Tensor dInner = at::mm(dy, up);
    if (scale != 1)
      dInner.mul_(scale);
    at::Tensor dx, dDown, dUp;
    if (context->needs_input_grad(0)) {
      dx = at::mm(dy, expanded(saved[2], saved[3], at::kFloat));
      dx.addmm_(dInner, down);
      dx = dx.view(context->saved_data["shape"].toIntVector());
    }
    if (context->needs_input_grad(1))
      dDown = at::mm(dInner.t(), rows);
    if (context->needs_input_grad(2)) {
      dUp = at::mm(dy.t(), inner);
      if (scale != 1)
        dUp.mul_(scale);
    }
    return {dx, at::Tensor(), dDown, dUp, at::Tensor()};
  }
};

} // namespace

extern "C" {

ct_status ct_rms_norm_modulated(const ct_tensor *x_, const ct_tensor *weight_, const ct_tensor *scale_, const ct_tensor *shift_,
                                double eps, ct_tensor **out) {
  return boundary("rms_norm", [&] {
    const at::Tensor &x = x_->value;
    const at::Tensor weight = optional(weight_), scale = optional(scale_), shift = optional(shift_);
    TORCH_CHECK(scale.defined() == shift.defined() && !(weight.defined() && scale.defined()),
                "rms_norm takes a weight, or scale and shift, or neither");
    const bool fits = x.dim() > 0 && x.numel() > 0 &&
                      (!weight.defined() || (weight.dim() == 1 && weight.size(0) == x.size(-1) && weight.is_contiguous())) &&
                      (!scale.defined() || (isRowsOf(scale, x) && isRowsOf(shift, x)));
    if (fits && isPlain(x, weight, scale, shift) && !isDifferentiated(weight) && !isDifferentiated(scale) && !isDifferentiated(shift)) {
      *out = own(RMSNorm::apply(x, Constants{weight, scale, shift}, eps));
      return;
    }
    const at::Tensor normed = at::rms_norm(x, {x.size(-1)}, weight.defined() ? std::optional(weight) : std::nullopt, eps);
    *out = own(scale.defined() ? at::addcmul(shift, normed, scale + 1) : normed);
  });
}

ct_status ct_rotate_split(const ct_tensor *x_, const ct_tensor *cos_, const ct_tensor *sin_, ct_tensor **out) {
  return boundary("rotate", [&] {
    const at::Tensor &x = x_->value, &cos = cos_->value, &sin = sin_->value;
    TORCH_CHECK(x.dim() == 3 && cos.dim() == 4 && cos.sizes() == sin.sizes(), "rotate: x must be [B, T, D], its tables [B, H, T, D/H/2]");
    const int64_t heads = cos.size(1);
    TORCH_CHECK(cos.size(2) == x.size(1) && 2 * heads * cos.size(3) == x.size(2), "rotate: the tables are for another size than ",
                x.sizes());
    const at::Tensor c = cos.transpose(1, 2), s = sin.transpose(1, 2); // [B, T, H, D/H/2]
    const bool fits = cos.size(0) == x.size(0) && c.is_contiguous() && s.is_contiguous();
    if (fits && isPlain(x, cos, sin)) {
      *out = own(Rotation::apply(x, Constants{c, s, {}}, heads));
      return;
    }
    const auto halves = x.unflatten(-1, {heads, -1}).transpose(1, 2).chunk(2, -1);
    *out = own(at::cat({at::addcmul(halves[0] * cos, halves[1], sin, -1), at::addcmul(halves[1] * cos, halves[0], sin)}, -1));
  });
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
                            const ct_tensor *bias_, const ct_tensor *down_, const ct_tensor *up_, double scale, ct_tensor **out) {
  return boundary("linear", [&] {
    const at::Tensor &x = x_->value, &weight = weight_->value, &down = down_->value, &up = up_->value;
    const at::Tensor bias = optional(bias_), factors = optional(factors_);
    const at::ScalarType dtype = scalarType(dtype_);
    const bool isExpanded = !factors.defined() && weight.scalar_type() == dtype;
    if (isPlain(x, bias, factors, down, up) && weight.is_cpu() && dtype == at::kFloat && !isDifferentiated(weight) &&
        !isDifferentiated(bias)) {
      *out = own(AdaptedLinear::apply(x, Constants{weight, bias, factors}, down, up, scale));
      return;
    }
    const at::Tensor y = isExpanded ? at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt)
                                    : QuantizedLinear::apply(x, Constants{weight, bias, factors}, dtype, false);
    const at::Tensor change = at::linear(at::linear(x.to(down.scalar_type()), down), up);
    *out = own((y + (scale == 1 ? change : change * scale)).to(y.scalar_type()));
  });
}
}
