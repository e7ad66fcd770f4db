// Blockwise 8-bit quantization, and Adam with 8-bit moments (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", 2022).
//
// A step dequantizes both moments, updates them and the parameter, and quantizes the moments again.
// libtorch needs some thirty passes over the data for that. If everything is float32 on the CPU,
// this is one pass, block by block in the processor's cache, with the same operations in the same
// order.

#include "boundary.h"
#include "kernels.h"

#include <cmath>
#include <cstring>

using namespace ctorch;

namespace {

constexpr int64_t blockSize = 256, mapSize = 256, tableSize = 65536;

int64_t blockCount(int64_t count) { return (count + blockSize - 1) / blockSize; }

const uint8_t *bytes(const at::Tensor &t) { return static_cast<const uint8_t *>(t.const_data_ptr()); }
uint8_t *writableBytes(const at::Tensor &t) { return static_cast<uint8_t *>(t.mutable_data_ptr()); }
float *writableNumbers(const at::Tensor &t) { return static_cast<float *>(t.mutable_data_ptr()); }

// MARK: One block

VECTORIZED void expand(const uint8_t *codes, float largest, const float *map, int64_t count, float *out) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = map[codes[i]] * largest;
}

/// - Returns: The block's largest absolute value.
VECTORIZED float pack(const float *x, const uint8_t *table, int64_t count, uint8_t *codes) {
#pragma clang fp contract(off)
  // The order of absolute values is the order of their bits, whose maximum vector instructions can
  // find.
  int32_t largestBits = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largestBits = largestBits < bits ? bits : largestBits;
  }
  float largest;
  std::memcpy(&largest, &largestBits, sizeof largest);
  const float inverse = 1 / largest;
  int32_t places[blockSize];
  for (int64_t i = 0; i < count; ++i) {
    float n = x[i] * inverse;
    // NaN, as in a block of zeros, becomes -1 and gets the first code.
    n = n > -1 ? n : -1;
    n = n < 1 ? n : 1;
    places[i] = static_cast<int32_t>((n + 1) * 0.5f * static_cast<float>(tableSize - 1) + 0.5f);
  }
  for (int64_t i = 0; i < count; ++i)
    codes[i] = table[places[i]];
  return largest;
}

/// The factors of a step, in float32 if libtorch's operations use float32.
struct AdamW {
  float beta1, oneMinusBeta1, beta2, oneMinusBeta2, correction2, eps, kept, rate;

  AdamW(int64_t step, double learningRate, double beta1, double beta2, double eps, double weightDecay)
      : beta1(static_cast<float>(beta1)), oneMinusBeta1(static_cast<float>(1 - beta1)), beta2(static_cast<float>(beta2)),
        oneMinusBeta2(static_cast<float>(1 - beta2)),
        correction2(static_cast<float>(std::sqrt(1 - std::pow(beta2, static_cast<double>(step))))), eps(static_cast<float>(eps)),
        kept(static_cast<float>(1 - learningRate * weightDecay)),
        rate(static_cast<float>(-learningRate / (1 - std::pow(beta1, static_cast<double>(step))))) {}
};

// Compiler built-ins, because the library functions may set errno, which prevents vectorization.
VECTORIZED void update(const AdamW &a, const float *gradient, int64_t count, float *first, float *second, float *parameter) {
#pragma clang fp contract(off)
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    first[i] = __builtin_elementwise_fma(g, a.oneMinusBeta1, first[i] * a.beta1);
    second[i] = __builtin_elementwise_fma(a.oneMinusBeta2 * g, g, second[i] * a.beta2);
    const float root = __builtin_elementwise_sqrt(second[i]) / a.correction2 + a.eps;
    parameter[i] = parameter[i] * a.kept + a.rate * first[i] / root;
  }
}

// MARK: With libtorch's operations

at::Tensor expanded(const at::Tensor &codes, const at::Tensor &largest, const at::Tensor &map) {
  const at::Tensor values = map.index_select(0, codes.flatten().to(at::kInt));
  return (values * largest.repeat_interleave(blockSize).narrow(0, 0, values.numel())).view(codes.sizes());
}

std::pair<at::Tensor, at::Tensor> packed(const at::Tensor &x, const at::Tensor &table) {
  const int64_t count = x.numel(), blocks = blockCount(count);
  const at::Tensor flat = x.to(at::kFloat).flatten();
  const at::Tensor rows =
      (count == blocks * blockSize ? flat : at::constant_pad_nd(flat, {0, blocks * blockSize - count})).view({blocks, blockSize});
  const at::Tensor largest = rows.abs().amax({1});
  at::Tensor n = rows * largest.reciprocal().unsqueeze(1);
  at::nan_to_num_(n, -1, 1, -1);
  const at::Tensor places = n.clamp_(-1, 1).add_(1).mul_(0.5).mul_(tableSize - 1).add_(0.5).to(at::kInt);
  return {table.index_select(0, places.flatten()).narrow(0, 0, count).view(x.sizes()), largest};
}

// MARK: Checks

void requireTable(const at::Tensor &table) {
  TORCH_CHECK(table.scalar_type() == at::kByte && table.dim() == 1 && table.size(0) == tableSize && table.is_contiguous(),
              "quantize: the table must be uint8 of ", tableSize, " codes, not ", table.sizes());
}

void requireQuantized(const at::Tensor &codes, const at::Tensor &largest, const at::Tensor &map) {
  TORCH_CHECK(codes.scalar_type() == at::kByte && codes.is_contiguous(), "dequantize: codes must be uint8, and contiguous");
  TORCH_CHECK(largest.scalar_type() == at::kFloat && largest.dim() == 1 && largest.size(0) == blockCount(codes.numel()) &&
                  largest.is_contiguous(),
              "dequantize: ", codes.numel(), " codes go with ", blockCount(codes.numel()), " blocks, not ", largest.sizes());
  TORCH_CHECK(map.scalar_type() == at::kFloat && map.dim() == 1 && map.size(0) == mapSize && map.is_contiguous(),
              "dequantize: the map must be float32 of ", mapSize, " numbers, not ", map.sizes());
}

struct Moment {
  at::Tensor codes, largest, map, table;

  explicit Moment(const ct_moment_8bit &m) : codes(m.codes->value), largest(m.largest->value), map(m.map->value), table(m.table->value) {
    requireQuantized(codes, largest, map);
    requireTable(table);
  }
};

bool isFast(const at::Tensor &t) { return isPlain(t) && t.is_contiguous(); }

// MARK: Steps

/// Updates a parameter whose moments begin at element `start`, block by block.
void updateOnCPU(const AdamW &numbersOfStep, at::Tensor parameter, const at::Tensor &gradient_, const Moment &first,
                 const Moment &second, int64_t start) {
  const at::Tensor gradient = gradient_.to(at::kFloat).contiguous();
  const int64_t count = parameter.numel();
  const float *g = numbers(gradient), *map1 = numbers(first.map), *map2 = numbers(second.map);
  const uint8_t *table1 = bytes(first.table), *table2 = bytes(second.table);
  float *p = writable(parameter);
  float *largest1 = writableNumbers(first.largest) + start / blockSize, *largest2 = writableNumbers(second.largest) + start / blockSize;
  uint8_t *codes1 = writableBytes(first.codes) + start, *codes2 = writableBytes(second.codes) + start;
  forRows(blockCount(count), blockSize, [&](int64_t begin, int64_t end) {
    float m[blockSize], v[blockSize];
    for (int64_t block = begin; block < end; ++block) {
      const int64_t at = block * blockSize, length = std::min(blockSize, count - at);
      expand(codes1 + at, largest1[block], map1, length, m);
      expand(codes2 + at, largest2[block], map2, length, v);
      update(numbersOfStep, g + at, length, m, v, p + at);
      largest1[block] = pack(m, table1, length, codes1 + at);
      largest2[block] = pack(v, table2, length, codes2 + at);
    }
  });
}

/// The elements of several tensors in one, each from its start.
std::vector<at::Tensor> parts(const at::Tensor &all, const std::vector<int64_t> &starts, const std::vector<at::Tensor> &like) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < like.size(); ++i)
    result.push_back(all.narrow(0, starts[i], like[i].numel()).view(like[i].sizes()));
  return result;
}

/// Updates all parameters with operations on all their moments at once: a launch takes as long as
/// the work of one small tensor.
void updateTogether(const std::vector<at::Tensor> &parameters, const std::vector<at::Tensor> &gradients,
                    const std::vector<int64_t> &starts, const Moment &first, const Moment &second, int64_t step, double learningRate,
                    double beta1, double beta2, double eps, double weightDecay) {
  const int64_t total = first.codes.numel();
  at::Tensor m = expanded(first.codes, first.largest, first.map).mul_(beta1);
  at::Tensor v = expanded(second.codes, second.largest, second.map).mul_(beta2);
  {
    const at::Tensor g = at::zeros({total}, m.options());
    at::_foreach_copy_(parts(g, starts, parameters), gradients);
    m.add_(g, 1 - beta1);
    v.addcmul_(g, g, 1 - beta2);
  }
  // Between the end of a parameter and of its last block, zero's code stands for a tiny value, which
  // must not become the block's largest.
  for (size_t i = 0; i < parameters.size(); ++i) {
    const int64_t end = starts[i] + parameters[i].numel(), next = i + 1 < starts.size() ? starts[i + 1] : total;
    if (end < next) {
      m.narrow(0, end, next - end).zero_();
      v.narrow(0, end, next - end).zero_();
    }
  }
  std::vector<at::Tensor> wide;
  for (const at::Tensor &parameter : parameters)
    wide.push_back(parameter.to(at::kFloat));
  if (weightDecay > 0)
    at::_foreach_mul_(wide, 1 - learningRate * weightDecay);
  {
    const double t = static_cast<double>(step);
    const at::Tensor root = v.sqrt().div_(std::sqrt(1 - std::pow(beta2, t))).add_(eps);
    at::_foreach_addcdiv_(wide, parts(m, starts, parameters), parts(root, starts, parameters), -learningRate / (1 - std::pow(beta1, t)));
  }
  for (size_t i = 0; i < parameters.size(); ++i)
    if (!wide[i].is_same(parameters[i]))
      at::Tensor(parameters[i]).copy_(wide[i]);
  for (auto &[moment, values] : {std::pair(&first, &m), std::pair(&second, &v)}) {
    const auto [codes, largest] = packed(*values, moment->table);
    at::Tensor(moment->codes).copy_(codes);
    at::Tensor(moment->largest).copy_(largest);
    *values = at::Tensor();
  }
}

} // namespace

extern "C" {

ct_status ct_quantize_blockwise(const ct_tensor *x_, const ct_tensor *table_, ct_tensor **codes, ct_tensor **largest) {
  return boundary("quantize_blockwise", [&] {
    const at::Tensor &x = x_->value, &table = table_->value;
    requireTable(table);
    TORCH_CHECK(x.numel() > 0, "quantize: the tensor is empty");
    if (!isFast(x) || !table.is_cpu()) {
      auto [c, l] = packed(x, table);
      *codes = own(c);
      *largest = own(l);
      return;
    }
    const int64_t count = x.numel(), blocks = blockCount(count);
    const at::Tensor c = at::empty(x.sizes(), x.options().dtype(at::kByte)), l = at::empty({blocks}, x.options());
    const float *in = numbers(x);
    forRows(blocks, blockSize, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t start = block * blockSize;
        writableNumbers(l)[block] =
            pack(in + start, bytes(table), std::min(blockSize, count - start), writableBytes(c) + start);
      }
    });
    *codes = own(c);
    *largest = own(l);
  });
}

ct_status ct_dequantize_blockwise(const ct_tensor *codes, const ct_tensor *largest, const ct_tensor *map, ct_tensor **out) {
  return boundary("dequantize_blockwise", [&] {
    requireQuantized(codes->value, largest->value, map->value);
    *out = own(expanded(codes->value, largest->value, map->value));
  });
}

ct_status ct_adamw_8bit(ct_tensor *const *parameters_, ct_tensor *const *gradients_, size_t count, ct_moment_8bit first_,
                        ct_moment_8bit second_, int64_t step, double learningRate, double beta1, double beta2, double eps,
                        double weightDecay) {
  return boundary("adamw_8bit", [&] {
    at::NoGradGuard noGrad;
    const std::vector<at::Tensor> parameters = list(parameters_, count), gradients = list(gradients_, count);
    const Moment first(first_), second(second_);
    TORCH_CHECK(step > 0, "adamw_8bit: steps count from 1, not ", step);
    std::vector<int64_t> starts;
    int64_t total = 0;
    bool isAllFast = first.codes.is_cpu() && second.codes.is_cpu();
    for (size_t i = 0; i < count; ++i) {
      TORCH_CHECK(gradients[i].sizes() == parameters[i].sizes(), "adamw_8bit: the parameter is ", parameters[i].sizes(), ", but not ",
                  gradients[i].sizes());
      starts.push_back(total);
      total += blockCount(parameters[i].numel()) * blockSize;
      isAllFast = isAllFast && isFast(parameters[i]) && gradients[i].is_cpu();
    }
    for (const at::Tensor &codes : {first.codes, second.codes})
      TORCH_CHECK(codes.dim() == 1 && codes.numel() == total, "adamw_8bit: the parameters take ", total, " codes, not ", codes.sizes());

    if (isAllFast) {
      const AdamW numbersOfStep(step, learningRate, beta1, beta2, eps, weightDecay);
      for (size_t i = 0; i < count; ++i)
        updateOnCPU(numbersOfStep, parameters[i], gradients[i], first, second, starts[i]);
    } else if (total > 0) {
      updateTogether(parameters, gradients, starts, first, second, step, learningRate, beta1, beta2, eps, weightDecay);
    }
  });
}
}
