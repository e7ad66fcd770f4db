// BigVGAN's activation: upsampling to twice the samples, a periodic function, and downsampling. A
// vocoder has a hundred of them. libtorch needs ten passes over twice the data; this is one pass,
// piece by piece in the processor's cache.

#include "boundary.h"
#include "kernels.h"

using namespace ctorch;

namespace {

constexpr int64_t taps = 12, phaseTaps = taps / 2;
/// The outputs of a piece, the pairs of upsampled values beyond each end that the filter of the
/// outputs reaches, and the inputs beyond each end that the filter of those pairs reaches.
constexpr int64_t piece = 512, margin = 3, inputMargin = 2 * margin;
constexpr int64_t pairCount = piece + 2 * margin, inputCount = piece + 2 * inputMargin;

/// The parameters of one channel. The filters are split by the parity of the upsampled sample.
struct Channel {
  float alpha, inverseBeta;
  float upEven[phaseTaps], upOdd[phaseTaps], downEven[phaseTaps], downOdd[phaseTaps];
};

/// u + inverseBeta * sin(alpha u)^2. The square has period pi, so the angle is reduced to -pi/2 ...
/// pi/2, where the sine's series up to the 13th power is exact to within rounding.
inline float bend(float u, float alpha, float inverseBeta) {
#pragma clang fp contract(fast)
  constexpr float rounding = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
  const float angle = u * alpha;
  const float turns = (angle * 0.318309886f + rounding) - rounding;
  float r = angle - turns * 3.140625f;
  r = r - turns * 9.67502593994e-4f;
  r = r - turns * 1.509957990978e-7f;
  // Angles too large to have a fractional part have no meaningful sine, but the result must be
  // finite.
  r = r < 1.6f ? r : 1.6f;
  r = r > -1.6f ? r : -1.6f;
  const float s = r * r;
  float series = 1.6059044e-10f;
  series = series * s - 2.5052108e-8f;
  series = series * s + 2.7557319e-6f;
  series = series * s - 1.9841270e-4f;
  series = series * s + 8.3333333e-3f;
  series = series * s - 1.6666667e-1f;
  const float sine = r + r * s * series;
  return u + inverseBeta * (sine * sine);
}

/// Computes outputs `first` ..< `last` of a row of `count` samples; at most `piece` of them.
VECTORIZED void snake(const float *x, const Channel &channel, int64_t first, int64_t last, int64_t count, float *y) {
#pragma clang fp contract(fast)
  const int64_t outputs = last - first, pairs = outputs + 2 * margin, inputs = outputs + 2 * inputMargin;
  float in[inputCount], even[pairCount], odd[pairCount];
  // The input from `first - inputMargin`; beyond its ends it is constant.
  const int64_t start = first - inputMargin;
  const int64_t before = std::clamp<int64_t>(-start, 0, inputs), end = std::clamp<int64_t>(count - start, 0, inputs);
  for (int64_t i = 0; i < before; ++i)
    in[i] = x[0];
  for (int64_t i = before; i < end; ++i)
    in[i] = x[start + i];
  for (int64_t i = end; i < inputs; ++i)
    in[i] = x[count - 1];
  // Pair p belongs to input first - margin + p, which is in[p + margin].
  for (int64_t p = 0; p < pairs; ++p) {
    float a = 0, b = 0;
    for (int64_t k = 0; k < phaseTaps; ++k) {
      a += channel.upEven[k] * in[p + 5 - k];
      b += channel.upOdd[k] * in[p + 6 - k];
    }
    even[p] = bend(a, channel.alpha, channel.inverseBeta);
    odd[p] = bend(b, channel.alpha, channel.inverseBeta);
  }
  // The upsampled samples are constant beyond the ends as well: the first and the last one repeat.
  for (int64_t p = margin - first - 1; p >= 0; --p)
    even[p] = odd[p] = even[margin - first];
  for (int64_t p = count - first + margin; p < pairs; ++p)
    even[p] = odd[p] = odd[count - first + margin - 1];
  for (int64_t i = 0; i < outputs; ++i) {
    float sum = 0;
    for (int64_t k = 0; k < phaseTaps; ++k)
      sum += channel.downEven[k] * even[i + k + 1] + channel.downOdd[k] * odd[i + k];
    y[first + i] = sum;
  }
}

at::Tensor inOnePass(const at::Tensor &given, const at::Tensor &alpha, const at::Tensor &inverseBeta, const at::Tensor &up,
                     const at::Tensor &down) {
  const at::Tensor x = given.contiguous();
  at::Tensor y = at::empty_like(x);
  const float *in = numbers(x), *alphas = numbers(alpha), *inverseBetas = numbers(inverseBeta), *ups = numbers(up), *downs = numbers(down);
  float *out = writable(y);
  const int64_t channels = x.size(1), count = x.size(2), pieces = (count + piece - 1) / piece;
  forRows(x.size(0) * channels * pieces, 16 * std::min(piece, count), [&](int64_t firstPiece, int64_t lastPiece) {
    Channel channel{};
    for (int64_t k = 0; k < phaseTaps; ++k) {
      channel.upEven[k] = ups[2 * k + 1];
      channel.upOdd[k] = ups[2 * k];
      channel.downEven[k] = downs[2 * k + 1];
      channel.downOdd[k] = downs[2 * k];
    }
    for (int64_t index = firstPiece; index < lastPiece; ++index) {
      const int64_t row = index / pieces, first = index % pieces * piece;
      channel.alpha = alphas[row % channels];
      channel.inverseBeta = inverseBetas[row % channels];
      snake(in + row * count, channel, first, std::min(first + piece, count), count, out + row * count);
    }
  });
  return y;
}

at::Tensor inSteps(const at::Tensor &x, const at::Tensor &alpha, const at::Tensor &inverseBeta, const at::Tensor &up,
                   const at::Tensor &down) {
  const int64_t channels = x.size(1), count = x.size(2);
  const auto filter = [&](const at::Tensor &t) { return t.view({1, 1, taps}).expand({channels, 1, taps}); };
  const auto column = [&](const at::Tensor &t) { return t.view({1, channels, 1}); };
  const at::Tensor doubled =
      at::conv_transpose1d(at::replication_pad1d(x, {5, 5}), filter(up), {}, 2, 0, 0, channels).narrow(2, 15, 2 * count);
  const at::Tensor bent = at::addcmul(doubled, (doubled * column(alpha)).sin_().square_(), column(inverseBeta));
  return at::conv1d(at::replication_pad1d(bent, {5, 6}), filter(down), {}, 2, at::IntArrayRef{0}, 1, channels);
}

} // namespace

extern "C" {

ct_status ct_antialiased_snake(const ct_tensor *x_, const ct_tensor *alpha_, const ct_tensor *inverse_beta_, const ct_tensor *up_,
                               const ct_tensor *down_, ct_tensor **out) {
  return boundary("antialiased_snake", [&] {
    const at::Tensor &x = x_->value, &alpha = alpha_->value, &inverseBeta = inverse_beta_->value, &up = up_->value, &down = down_->value;
    TORCH_CHECK(x.dim() == 3 && x.numel() > 0, "antialiased_snake: x must be [B, C, N] and not empty, not ", x.sizes());
    for (const at::Tensor &t : {alpha, inverseBeta})
      TORCH_CHECK(t.dim() == 1 && t.size(0) == x.size(1) && t.is_contiguous(), "antialiased_snake: ", x.size(1), " channels, but numbers for ",
                  t.sizes());
    for (const at::Tensor &t : {up, down})
      TORCH_CHECK(t.dim() == 1 && t.size(0) == taps && t.is_contiguous(), "antialiased_snake: filters must have ", taps, " taps, not ",
                  t.sizes());
    const bool isDifferentiable = at::GradMode::is_enabled() && (isDifferentiated(x) || isDifferentiated(alpha) ||
                                                                 isDifferentiated(inverseBeta) || isDifferentiated(up) || isDifferentiated(down));
    const bool isFused = isPlain(x, alpha, inverseBeta, up, down) && !isDifferentiable;
    *out = own(isFused ? inOnePass(x, alpha, inverseBeta, up, down) : inSteps(x, alpha, inverseBeta, up, down));
  });
}
}
