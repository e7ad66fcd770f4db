// Matrices in 4 or 2 bits per element.
//
// A linear layer dequantizes its matrix each time it runs, and again in the backward pass, so that
// the graph holds only what is packed. Everything is a few operations of libtorch, the same on each
// device.

#include "boundary.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

using namespace ctorch;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

namespace {

/// The tensors and sizes of a `ct_packed_matrix`. The tensors are in a struct because autograd only
/// tracks tensors that are arguments themselves.
struct Matrix {
  at::Tensor codes, scales, shifts, values, tensorScale;
  int64_t rows, columns, group, bits;
  bool isPlanar;
  at::ScalarType dtype;

  explicit Matrix(const ct_packed_matrix &matrix)
      : codes(matrix.codes->value), scales(matrix.scales->value), shifts(optional(matrix.shifts)), values(optional(matrix.values)),
        tensorScale(optional(matrix.tensor_scale)), rows(matrix.rows), columns(matrix.columns), group(matrix.group),
        bits(matrix.bits), isPlanar(matrix.is_planar), dtype(scalarType(matrix.dtype)) {
    TORCH_CHECK(codes.scalar_type() == at::kByte, "packed codes must have dtype uint8 (got ", codes.scalar_type(), ")");
    TORCH_CHECK((bits == 4 || bits == 2) && group > 0 && rows >= 0 && columns >= 0 && (isPlanar || bits == 4),
                "packed codes of ", bits, " bits in groups of ", group, " are not supported");
    const int64_t count = rows * columns, perByte = 8 / bits, groups = (count + group - 1) / group;
    const int64_t bytes = isPlanar ? (groups + perByte - 1) / perByte * group : (count + perByte - 1) / perByte;
    TORCH_CHECK(codes.numel() == bytes && scales.numel() == groups && (!isPlanar || count % group == 0) &&
                    (!shifts.defined() || shifts.numel() == groups) && (isPlanar == !values.defined()) &&
                    (!values.defined() || values.numel() == 512),
                "a packed matrix of shape [", rows, ", ", columns, "] in groups of ", group,
                " does not fit the sizes of its tensors: codes ", codes.sizes(), ", scales ", scales.sizes());
  }

  Matrix(AutogradContext *context, const tensor_list &saved)
      : codes(saved[0]), scales(saved[1]), shifts(saved[2]), values(saved[3]), tensorScale(saved[4]) {
    const auto numbers = context->saved_data["numbers"].toIntVector();
    rows = numbers[0], columns = numbers[1], group = numbers[2], bits = numbers[3];
    isPlanar = numbers[4] != 0;
    dtype = static_cast<at::ScalarType>(numbers[5]);
  }

  void save(AutogradContext *context) const {
    context->save_for_backward({codes, scales, shifts, values, tensorScale});
    context->saved_data["numbers"] =
        std::vector<int64_t>{rows, columns, group, bits, isPlanar ? 1 : 0, static_cast<int64_t>(dtype)};
  }

  /// The dequantized matrix, [rows, columns].
  at::Tensor dequantized() const {
    const at::Tensor matrix = isPlanar ? planar() : pairs();
    return matrix.view({rows, columns}).to(dtype);
  }

private:
  /// Code * scale - shift, each rounded to the dtype of the scales.
  at::Tensor planar() const {
    const int64_t groups = rows * columns / group;
    const at::Tensor places = at::arange(0, 8, bits, codes.options()).view({-1, 1, 1});
    const at::Tensor all = at::bitwise_right_shift(codes.view({1, -1, group}), places).bitwise_and_((1 << bits) - 1);
    // Operations on operands of two dtypes are not vectorized on a CPU.
    at::Tensor result = all.view({-1, group}).narrow(0, 0, groups).to(scales.scalar_type()).mul_(scales.view({groups, 1}));
    if (shifts.defined())
      result.sub_(shifts.view({groups, 1}));
    return result;
  }

  /// The value of each code times its scale, in float32. Bytes are looked up whole, for half the
  /// indices.
  at::Tensor pairs() const {
    const int64_t count = rows * columns, groups = scales.numel();
    at::Tensor result = values.view({256, 2}).index_select(0, codes.view(-1).to(at::kInt)).view(-1).narrow(0, 0, count);
    at::Tensor factors = scales.view({groups, 1}).to(at::kFloat);
    if (tensorScale.defined())
      factors = tensorScale * factors;
    if (count % group == 0)
      return result.view({groups, group}).mul_(factors);
    result = at::constant_pad_nd(result, {0, groups * group - count});
    return result.view({groups, group}).mul_(factors).view(-1).narrow(0, 0, count);
  }
};

/// A matrix that is dequantized again in the backward pass instead of being stored for it.
struct PackedLinear : torch::autograd::Function<PackedLinear> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const Matrix &matrix, const std::optional<at::Tensor> &bias) {
    matrix.save(context);
    context->saved_data["input"] = static_cast<int64_t>(x.scalar_type());
    return at::linear(x, matrix.dequantized(), bias);
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const Matrix matrix(context, context->get_saved_variables());
    const auto input = static_cast<at::ScalarType>(context->saved_data["input"].toInt());
    const at::Tensor &dy = gradients[0];
    return {at::matmul(dy, matrix.dequantized().to(dy.scalar_type())).to(input), at::Tensor(), at::Tensor()};
  }
};

} // namespace

extern "C" {

ct_status ct_dequantize_packed(ct_packed_matrix matrix, ct_tensor **out) {
  return boundary("dequantize", [&] { *out = own(Matrix(matrix).dequantized()); });
}

ct_status ct_linear_packed(const ct_tensor *x, ct_packed_matrix matrix, const ct_tensor *bias, ct_tensor **out) {
  return boundary("linear", [&] {
    const Matrix weight(matrix);
    if (bias && bias->value.requires_grad()) {
      const at::Tensor y = PackedLinear::apply(x->value, weight, std::nullopt);
      *out = own((y + bias->value).to(y.scalar_type()));
    } else {
      *out = own(PackedLinear::apply(x->value, weight, maybe(bias)));
    }
  });
}
}
