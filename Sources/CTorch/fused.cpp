// Norms and rotations, which libtorch computes in several operations, each with its own backward
// pass.
//
// libtorch has no one-pass RMS norm or rotation for the CPU, and together with linear layers
// (linear.cpp) they take a third of a training step there. Each function here is the plain sequence
// of operations, replaced by the fused one if everything is float32 or bfloat16 on the CPU and
// gradients are needed only for what the fused backward pass covers. In bfloat16, rows are computed
// in float32, and rounded once.

#include "boundary.h"
#include "kernels.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <cstring>
#include <vector>

using namespace ctorch;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

namespace {

// MARK: Rows in float32

VECTORIZED void widen(const BFloat16Bits *x, int64_t count, float *out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

/// Rounds to the nearest bfloat16, to the even one of two.
VECTORIZED void narrow(const float *x, int64_t count, BFloat16Bits *out) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    out[i] = static_cast<BFloat16Bits>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
}

/// Gives kernels rows in float32: those of float32 tensors themselves, and copies of others.
template <class T> struct RowBuffer;

template <> struct RowBuffer<float> {
  explicit RowBuffer(int64_t) {}
  const float *read(const float *row) { return row; }
  float *write(float *row) { return row; }
  void finish(float *) {}
};

template <> struct RowBuffer<BFloat16Bits> {
  explicit RowBuffer(int64_t width) : values(static_cast<size_t>(width)) {}
  const float *read(const BFloat16Bits *row) {
    if (!row)
      return nullptr;
    // Often all rows of a sample share the same factors.
    if (row != last)
      widen(row, width(), values.data());
    last = row;
    return values.data();
  }
  float *write(BFloat16Bits *) { return values.data(); }
  void finish(BFloat16Bits *row) { narrow(values.data(), width(), row); }

private:
  std::vector<float> values;
  const BFloat16Bits *last = nullptr;
  int64_t width() const { return static_cast<int64_t>(values.size()); }
};

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
template <class T> struct Rows {
  const T *data = nullptr;
  int64_t tokens = 1, batchStride = 0, tokenStride = 0;

  Rows(const at::Tensor &t, int64_t tokens) : tokens(tokens) {
    if (!t.defined())
      return;
    data = elements<T>(t);
    batchStride = t.size(0) == 1 ? 0 : t.stride(0);
    tokenStride = t.size(1) == 1 ? 0 : t.stride(1);
  }

  const T *operator[](int64_t row) const {
    return data ? data + row / tokens * batchStride + row % tokens * tokenStride : nullptr;
  }
};

/// Tensors that may be undefined and are not differentiated. They are in a struct because autograd
/// only tracks tensors that are arguments themselves.
struct Constants {
  at::Tensor first, second, third;
};

struct RMSNorm : torch::autograd::Function<RMSNorm> {
  using Factor = std::optional<at::Tensor>;

  static at::Tensor forward(AutogradContext *context, const at::Tensor &given, const Factor &weight_, const Factor &scale_,
                            const Factor &shift_, double eps) {
    const at::Tensor weight = weight_.value_or(at::Tensor()), scale = scale_.value_or(at::Tensor()), shift = shift_.value_or(at::Tensor());
    const at::Tensor x = given.contiguous();
    at::Tensor y = at::empty_like(x), inverse = at::empty({x.numel() / x.size(-1)}, x.options().dtype(at::kFloat));
    const at::Tensor wide = weight.defined() ? weight.to(at::kFloat) : weight;
    if (x.scalar_type() == at::kFloat)
      forwardRows<float>(x, wide, scale, shift, static_cast<float>(eps), y, inverse);
    else
      forwardRows<BFloat16Bits>(x, wide, scale, shift, static_cast<float>(eps), y, inverse);
    context->save_for_backward({x, wide, scale, inverse});
    const auto store = [&](const char *name, const at::Tensor &factor) {
      if (isDifferentiated(factor))
        context->saved_data[name] = factor.sizes();
    };
    store("weight", weight);
    store("scale", scale);
    store("shift", shift);
    return y;
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &inverse = saved[3];
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx = at::empty_like(x);
    if (x.scalar_type() == at::kFloat)
      backwardRows<float>(x, saved[1], saved[2], inverse, dy, dx);
    else
      backwardRows<BFloat16Bits>(x, saved[1], saved[2], inverse, dy, dx);
    // The gradients of factors are sums over the rows that share them.
    const auto summed = [&](const char *name, bool isFactor) {
      const auto found = context->saved_data.find(name);
      if (found == context->saved_data.end())
        return at::Tensor();
      at::Tensor wide = dy.to(at::kFloat);
      if (isFactor)
        wide = wide * x.to(at::kFloat) * inverse.view(sizesOfRows(x));
      return at::sum_to(wide, found->second.toIntVector()).to(x.scalar_type());
    };
    return {dx, summed("weight", true), summed("scale", true), summed("shift", false), at::Tensor()};
  }

private:
  /// [..., 1] for x [..., D]
  static std::vector<int64_t> sizesOfRows(const at::Tensor &x) {
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes.back() = 1;
    return sizes;
  }

  template <class T>
  static void forwardRows(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &scale, const at::Tensor &shift, float eps,
                          at::Tensor &y, at::Tensor &inverse) {
    const int64_t width = x.size(-1), rows = x.numel() / width, tokens = x.dim() > 1 ? x.size(-2) : 1;
    const T *in = elements<T>(x);
    const float *w = weight.defined() ? numbers(weight) : nullptr;
    T *out = writableElements<T>(y);
    float *inverses = writable(inverse);
    const Rows<T> scales(scale, tokens), shifts(shift, tokens);
    forRows(rows, width, [&](int64_t first, int64_t last) {
      RowBuffer<T> input(width), factor(width), addend(width), output(width);
      for (int64_t row = first; row < last; ++row) {
        T *result = out + row * width;
        normalize(input.read(in + row * width), w, factor.read(scales[row]), addend.read(shifts[row]), eps, width, output.write(result),
                  inverses + row);
        output.finish(result);
      }
    });
  }

  template <class T>
  static void backwardRows(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &scale, const at::Tensor &inverse,
                           const at::Tensor &dy, at::Tensor &dx) {
    const int64_t width = x.size(-1), rows = x.numel() / width, tokens = x.dim() > 1 ? x.size(-2) : 1;
    const T *in = elements<T>(x), *dIn = elements<T>(dy);
    const float *w = weight.defined() ? numbers(weight) : nullptr, *inverses = numbers(inverse);
    T *out = writableElements<T>(dx);
    const Rows<T> scales(scale, tokens);
    forRows(rows, width, [&](int64_t first, int64_t last) {
      RowBuffer<T> input(width), gradient(width), factor(width), output(width);
      for (int64_t row = first; row < last; ++row) {
        T *result = out + row * width;
        normalizeBackward(input.read(in + row * width), w, factor.read(scales[row]), gradient.read(dIn + row * width), inverses[row],
                          width, output.write(result));
        output.finish(result);
      }
    });
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

/// x [B, T, D], tables [B, T, D/2] in float32, all contiguous; `sign` -1 rotates back.
template <class T> at::Tensor rotated(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, float sign, int64_t heads) {
  const int64_t width = x.size(2), rows = x.numel() / width, half = width / heads / 2;
  at::Tensor y = at::empty_like(x);
  const T *in = elements<T>(x);
  const float *c = numbers(cos), *s = numbers(sin);
  T *out = writableElements<T>(y);
  forRows(rows, width, [&](int64_t first, int64_t last) {
    RowBuffer<T> input(width), output(width);
    for (int64_t row = first; row < last; ++row) {
      T *result = out + row * width;
      rotate(input.read(in + row * width), c + row * (width / 2), s + row * (width / 2), sign, heads, half, output.write(result));
      output.finish(result);
    }
  });
  return y;
}

struct Rotation : torch::autograd::Function<Rotation> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &tables, int64_t heads) {
    const auto &[cos, sin, none] = tables;
    context->save_for_backward({cos, sin});
    context->saved_data["heads"] = heads;
    return rotated<float>(x.contiguous(), cos, sin, 1, heads).unflatten(-1, {heads, -1}).transpose(1, 2);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].transpose(1, 2).flatten(2, 3).contiguous();
    return {rotated<float>(dy, saved[0], saved[1], -1, context->saved_data["heads"].toInt()), at::Tensor(), at::Tensor()};
  }
};

/// The rotation with libtorch's operations: x [B, T, D] in a narrow dtype, tables [B, T, H, D/H/2].
/// Each result is computed in the tables' dtype and rounded once.
at::Tensor rotatedNarrow(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, float sign) {
  const int64_t half = cos.size(3);
  const bool isContiguous = cos.is_contiguous() && sin.is_contiguous() && cos.size(0) == x.size(0);
  if (isContiguous && isNarrow(x) && cos.scalar_type() == at::kFloat && sin.scalar_type() == at::kFloat)
    return rotated<BFloat16Bits>(x.contiguous(), cos, sin, sign, cos.size(2)).unflatten(-1, {cos.size(2), 2 * half});
  const at::Tensor in = x.unflatten(-1, {cos.size(2), 2 * half});
  at::Tensor out = at::empty(in.sizes(), in.options());
  const at::Tensor a = in.narrow(-1, 0, half), b = in.narrow(-1, half, half);
  at::Tensor first = out.narrow(-1, 0, half), second = out.narrow(-1, half, half);
  at::Tensor product = a * cos;
  at::addcmul_out(first, product, b, sin, -sign);
  at::mul_out(product, b, cos);
  at::addcmul_out(second, product, a, sin, sign);
  return out;
}

struct NarrowRotation : torch::autograd::Function<NarrowRotation> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Constants &tables) {
    const auto &[cos, sin, none] = tables;
    context->save_for_backward({cos, sin});
    return rotatedNarrow(x, cos, sin, 1).transpose(1, 2);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].transpose(1, 2).flatten(2, 3);
    return {rotatedNarrow(dy, saved[0], saved[1], -1).flatten(2, 3), at::Tensor()};
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
    const bool isFast = isPlain(x, weight, scale, shift) || isNarrow(x, weight, scale, shift);
    // The choice must not depend on gradients: a block that is rebuilt has them only the second time.
    if (fits && isFast) {
      *out = own(RMSNorm::apply(x, maybe(weight_), maybe(scale_), maybe(shift_), eps));
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
    // Under autocast, attention would round the result to the dtype of x.
    const auto device = x.device().type();
    if (at::autocast::is_autocast_enabled(device) && at::autocast::get_autocast_dtype(device) == x.scalar_type() &&
        !isDifferentiated(cos) && !isDifferentiated(sin)) {
      *out = own(NarrowRotation::apply(x, Constants{c, s, {}}));
      return;
    }
    const auto halves = x.unflatten(-1, {heads, -1}).transpose(1, 2).chunk(2, -1);
    *out = own(at::cat({at::addcmul(halves[0] * cos, halves[1], sin, -1), at::addcmul(halves[1] * cos, halves[0], sin)}, -1));
  });
}
}
