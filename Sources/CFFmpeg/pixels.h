// Scene detection's loops over pixels. They are in C, like those of shim.h, so that a debug build
// is fast.
#ifndef CFFMPEG_PIXELS_H
#define CFFMPEG_PIXELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/// Shrinks the width of an RGB row: each target pixel is two source pixels, with weights out of
/// 2048, in units of 1/128.
static inline void cffmpeg_shrink_across(
    const uint8_t *restrict source, const int32_t *restrict first, const int32_t *restrict second,
    const int16_t *restrict first_weight, const int16_t *restrict second_weight, int width,
    int16_t *restrict target) {
  int x = 0;
#ifdef __SSE2__
  // Four bytes are read and four values written per pixel, so the last pixel is left to the loop
  // below.
  const __m128i zero = _mm_setzero_si128();
  for (; x < width - 1 && second[x] + 1 < second[width - 1]; x++) {
    int left, right;
    memcpy(&left, source + 3 * first[x], 4);
    memcpy(&right, source + 3 * second[x], 4);
    __m128i both = _mm_unpacklo_epi8(_mm_cvtsi32_si128(left), _mm_cvtsi32_si128(right));
    __m128i weights = _mm_set1_epi32((int)(((uint32_t)second_weight[x] << 16) | (uint16_t)first_weight[x]));
    __m128i sum = _mm_srai_epi32(_mm_madd_epi16(_mm_unpacklo_epi8(both, zero), weights), 4);
    _mm_storel_epi64((__m128i *)(target + 3 * x), _mm_packs_epi32(sum, sum));
  }
#endif
  for (; x < width; x++) {
    const uint8_t *left = source + 3 * first[x];
    const uint8_t *right = source + 3 * second[x];
    int a = first_weight[x], b = second_weight[x];
    target[3 * x] = (int16_t)((left[0] * a + right[0] * b) >> 4);
    target[3 * x + 1] = (int16_t)((left[1] * a + right[1] * b) >> 4);
    target[3 * x + 2] = (int16_t)((left[2] * a + right[2] * b) >> 4);
  }
}

/// Blends two such rows; their weights add up to 2048, so no value exceeds 255.
static inline void cffmpeg_blend_rows(
    const int16_t *restrict upper, const int16_t *restrict lower, int16_t above, int16_t below, int count,
    uint8_t *restrict target) {
  int x = 0;
#ifdef __SSE2__
  const __m128i high = _mm_set1_epi16(above), low = _mm_set1_epi16(below), two = _mm_set1_epi16(2);
  for (; x + 8 <= count; x += 8) {
    __m128i a = _mm_mulhi_epi16(_mm_loadu_si128((const __m128i *)(upper + x)), high);
    __m128i b = _mm_mulhi_epi16(_mm_loadu_si128((const __m128i *)(lower + x)), low);
    __m128i sum = _mm_srai_epi16(_mm_add_epi16(_mm_add_epi16(a, b), two), 2);
    _mm_storel_epi64((__m128i *)(target + x), _mm_packus_epi16(sum, sum));
  }
#endif
  for (; x < count; x++) {
    int sum = ((upper[x] * above) >> 16) + ((lower[x] * below) >> 16);
    target[x] = (uint8_t)((sum + 2) >> 2);
  }
}

/// Converts RGB to OpenCV's 8-bit HSV (hue up to 179). The tables contain 255 * 4096 / n and 30 *
/// 4096 / n.
static inline void cffmpeg_hsv(
    const uint8_t *restrict rgb, const int32_t *restrict saturation_scale, const int32_t *restrict hue_scale,
    size_t count, uint8_t *restrict hues, uint8_t *restrict saturations, uint8_t *restrict values) {
  for (size_t i = 0; i < count; i++) {
    int red = rgb[3 * i], green = rgb[3 * i + 1], blue = rgb[3 * i + 2];
    int value = red > green ? red : green;
    value = value > blue ? value : blue;
    int least = red < green ? red : green;
    least = least < blue ? least : blue;
    int spread = value - least;
    int sixth = value == red ? green - blue : value == green ? blue - red + 2 * spread : red - green + 4 * spread;
    int hue = (sixth * hue_scale[spread] + 2048) >> 12;
    hues[i] = (uint8_t)(hue < 0 ? hue + 180 : hue);
    saturations[i] = (uint8_t)((spread * saturation_scale[value] + 2048) >> 12);
    values[i] = (uint8_t)value;
  }
}

/// The sum of absolute differences.
static inline int64_t cffmpeg_difference(const uint8_t *restrict a, const uint8_t *restrict b, size_t count) {
  int64_t sum = 0;
  for (size_t start = 0; start < count; start += 65536) {
    // A 32-bit sum, so that the loop is vectorized.
    uint32_t part = 0;
    size_t end = count - start > 65536 ? start + 65536 : count;
    for (size_t i = start; i < end; i++) part += (uint32_t)(a[i] > b[i] ? a[i] - b[i] : b[i] - a[i]);
    sum += part;
  }
  return sum;
}

/// The sum of all bytes.
static inline int64_t cffmpeg_sum(const uint8_t *bytes, size_t count) {
  int64_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += bytes[i];
  return sum;
}

/// Counts OpenCV's luma of RGB (BT.601 in 14 bits) in 128 bins.
static inline void cffmpeg_luma_histogram(const uint8_t *restrict rgb, size_t count, int64_t *restrict bins) {
  for (size_t i = 0; i < count; i++) {
    int luma = (rgb[3 * i] * 4899 + rgb[3 * i + 1] * 9617 + rgb[3 * i + 2] * 1868 + 8192) >> 14;
    bins[luma >> 1]++;
  }
}

#endif
