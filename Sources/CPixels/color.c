#include <math.h>
#include <string.h>
#include "cpixels.h"
#include "dispatch.h"

/// The index of a value in a table over octaves; 0 for values that are not positive.
CPIXELS_INLINE int place(float value) {
  const int32_t lowest = (127 + CPIXELS_LOW_OCTAVE) * CPIXELS_STEPS;
  int32_t bits;
  memcpy(&bits, &value, 4);
  int32_t index = (bits >> 14) - lowest;
  return index < 0 ? 0 : index >= CPIXELS_ENTRIES ? CPIXELS_ENTRIES - 1 : index;
}

CPIXELS_INLINE float clamped(float value) { return value < 0 ? 0 : value > 1 ? 1 : value; }

/// Converts a row of a plane to floats.
CPIXELS_INLINE void unpack(const cpixels_color *c, const uint8_t *row, int count, float *restrict target) {
  if (c->bytes == 1) {
    for (int i = 0; i < count; i++) target[i] = (float)row[i];
  } else {
    const uint16_t *words = (const uint16_t *)row;
    const int shift = c->shift, mask = (1 << c->depth) - 1;
    for (int i = 0; i < count; i++) target[i] = (float)((words[i] >> shift) & mask);
  }
}

/// The most common case: two pixels share a sample, which is at the left one (place 0) or between
/// them (place 1).
CPIXELS_INLINE void double_width(
    const float *restrict samples, int count, int place, int width, float *restrict target) {
  const float near = place ? 0.75f : 0.5f, far = 1 - near;
  for (int i = 1; i + 1 < count; i++) {
    target[2 * i] = place ? near * samples[i] + far * samples[i - 1] : samples[i];
    target[2 * i + 1] = near * samples[i] + far * samples[i + 1];
  }
  for (int x = 0; x < width; x = x == 1 && count > 2 ? 2 * (count - 1) : x + 1) {
    int i = x / 2, other = x % 2 ? (i + 1 < count ? i + 1 : i) : (i > 0 ? i - 1 : 0);
    if (x % 2 == 0 && !place) other = i;
    target[x] = near * samples[i] + far * samples[other];
  }
}

/// Interpolates samples linearly at every pixel of a row. `1 << shift` pixels share a sample, and
/// the first sample is `place` half pixels from the first pixel.
CPIXELS_INLINE void widen(
    const float *restrict samples, int count, int shift, int place, int width, float *restrict target) {
  const float scale = 1.0f / (float)(1 << shift), offset = -0.5f * (float)place * scale;
  for (int x = 0; x < width; x++) {
    float at = (float)x * scale + offset;
    if (at < 0) at = 0;
    int left = (int)at;
    if (left > count - 1) left = count - 1;
    int right = left + 1 < count ? left + 1 : left;
    float part = at - (float)left;
    target[x] = samples[left] + (samples[right] - samples[left]) * part;
  }
}

/// Computes the chroma of one row of the frame.
CPIXELS_INLINE void chroma_row(
    const cpixels_color *c, const uint8_t *plane, ptrdiff_t stride, int width, int height, int y,
    float *restrict upper, float *restrict lower, float *restrict target) {
  int count = -((-width) >> c->chroma_shift_x), rows = -((-height) >> c->chroma_shift_y);
  float at = ((float)y - 0.5f * (float)c->chroma_place_y) / (float)(1 << c->chroma_shift_y);
  if (c->chroma_shift_y == 0 || at < 0) at = c->chroma_shift_y == 0 ? (float)y : 0;
  int above = (int)at;
  if (above > rows - 1) above = rows - 1;
  int below = above + 1 < rows ? above + 1 : above;
  float part = at - (float)above;
  float *mixed = c->chroma_shift_x ? upper : target;
  unpack(c, plane + above * stride, count, mixed);
  if (part > 0 && below != above) {
    unpack(c, plane + below * stride, count, lower);
    for (int i = 0; i < count; i++) mixed[i] += (lower[i] - mixed[i]) * part;
  }
  if (c->chroma_shift_x == 1) {
    double_width(mixed, count, c->chroma_place_x, width, target);
  } else if (c->chroma_shift_x) widen(mixed, count, c->chroma_shift_x, c->chroma_place_x, width, target);
}

/// Computes the three values of each pixel of a row from samples, from 0 to 1.
CPIXELS_INLINE void values(
    const cpixels_color *c, int width, float *restrict first, float *restrict second, float *restrict third) {
  const float black = c->black, white = 1 / c->white, zero = c->zero, chroma = 1 / c->chroma;
  if (c->constant_luminance) {
    for (int x = 0; x < width; x++) {
      float luma = (first[x] - black) * white, cb = (second[x] - zero) * chroma, cr = (third[x] - zero) * chroma;
      first[x] = clamped(luma);
      second[x] = clamped(luma + cr * (cr < 0 ? c->red_negative : c->red_positive));
      third[x] = clamped(luma + cb * (cb < 0 ? c->blue_negative : c->blue_positive));
    }
    return;
  }
  const float *m = c->matrix;
  const float m0 = m[0], m1 = m[1], m2 = m[2], m3 = m[3], m4 = m[4], m5 = m[5], m6 = m[6], m7 = m[7], m8 = m[8];
  for (int x = 0; x < width; x++) {
    float luma = (first[x] - black) * white, cb = (second[x] - zero) * chroma, cr = (third[x] - zero) * chroma;
    first[x] = clamped(m0 * luma + m1 * cb + m2 * cr);
    second[x] = clamped(m3 * luma + m4 * cb + m5 * cr);
    third[x] = clamped(m6 * luma + m7 * cb + m8 * cr);
  }
}

/// Multiplies three values by a matrix, in place.
CPIXELS_INLINE void multiply(const float *m, int count, float *restrict a, float *restrict b, float *restrict c) {
  const float m0 = m[0], m1 = m[1], m2 = m[2], m3 = m[3], m4 = m[4], m5 = m[5], m6 = m[6], m7 = m[7], m8 = m[8];
  for (int x = 0; x < count; x++) {
    float red = m0 * a[x] + m1 * b[x] + m2 * c[x], green = m3 * a[x] + m4 * b[x] + m5 * c[x];
    c[x] = m6 * a[x] + m7 * b[x] + m8 * c[x];
    a[x] = red;
    b[x] = green;
  }
}

CPIXELS_INLINE void light(const float *restrict table, int count, float *restrict codes) {
  for (int x = 0; x < count; x++) codes[x] = table[(int)(codes[x] * (CPIXELS_CODES - 1) + 0.5f)];
}

/// Looks up the code values of light.
CPIXELS_INLINE void encode(
    const int32_t *restrict table, int count, const float *restrict light, const float *restrict factor,
    int32_t *restrict codes) {
  for (int x = 0; x < count; x++) {
    float value = light[x] * factor[x];
    // Light above white is clipped. After the tone curve, only saturated colors outside the
    // target's primaries exceed it.
    codes[x] = table[place(value < 1 ? value : 1)];
  }
}

enum { part = 256 };

/// Processes at most `part` pixels. Each step is a separate loop, so that the compiler can
/// vectorize it.
CPIXELS_INLINE void finish_part(
    const cpixels_color *color, int count, float *restrict a, float *restrict b, float *restrict c,
    uint8_t *restrict target) {
  float factor[part];
  int32_t codes[3][part];
  light(color->linear[0], count, a);
  light(color->linear[1], count, b);
  light(color->linear[2], count, c);
  if (color->has_premix) multiply(color->premix, count, a, b, c);
  for (int x = 0; x < count; x++) factor[x] = 1;
  if (color->system_gamma) {
    const float red = color->luminance[0], green = color->luminance[1], blue = color->luminance[2];
    const float *restrict table = color->system_gamma;
    for (int x = 0; x < count; x++) factor[x] = table[place(red * a[x] + green * b[x] + blue * c[x])];
  }
  if (color->tone) {
    const float *restrict table = color->tone;
    for (int x = 0; x < count; x++) {
      float most = a[x] > b[x] ? a[x] : b[x];
      most = most > c[x] ? most : c[x];
      factor[x] *= table[place(most * factor[x])];
    }
  }
  multiply(color->gamut, count, a, b, c);
  encode(color->encoded, count, a, factor, codes[0]);
  encode(color->encoded, count, b, factor, codes[1]);
  encode(color->encoded, count, c, factor, codes[2]);
  for (int x = 0; x < count; x++) {
    target[3 * x] = (uint8_t)codes[0][x];
    target[3 * x + 1] = (uint8_t)codes[1][x];
    target[3 * x + 2] = (uint8_t)codes[2][x];
  }
}

CPIXELS_INLINE void finish(
    const cpixels_color *color, int width, float *restrict first, float *restrict second, float *restrict third,
    uint8_t *restrict target) {
  if (!color->linear[0]) {
    for (int x = 0; x < width; x++) {
      target[3 * x] = (uint8_t)(first[x] * 255 + 0.5f);
      target[3 * x + 1] = (uint8_t)(second[x] * 255 + 0.5f);
      target[3 * x + 2] = (uint8_t)(third[x] * 255 + 0.5f);
    }
    return;
  }
  for (int x = 0; x < width; x += part) {
    int count = width - x < part ? width - x : part;
    finish_part(color, count, first + x, second + x, third + x, target + 3 * x);
  }
}

CPIXELS_INLINE void convert(
    const cpixels_color *c, const uint8_t *const planes[3], const ptrdiff_t strides[3], int width, int height,
    int y, int count, uint8_t *target, ptrdiff_t target_stride, float *scratch) {
  float *first = scratch, *second = first + width, *third = second + width, *upper = third + width,
        *lower = upper + width + 2;
  for (int row = y; row < y + count; row++) {
    unpack(c, planes[0] + row * strides[0], width, first);
    chroma_row(c, planes[1], strides[1], width, height, row, upper, lower, second);
    chroma_row(c, planes[2], strides[2], width, height, row, upper, lower, third);
    values(c, width, first, second, third);
    finish(c, width, first, second, third, target + row * target_stride);
  }
}

CPIXELS_AVX2 static void convert_avx2(
    const cpixels_color *c, const uint8_t *const planes[3], const ptrdiff_t strides[3], int width, int height,
    int y, int count, uint8_t *target, ptrdiff_t target_stride, float *scratch) {
  convert(c, planes, strides, width, height, y, count, target, target_stride, scratch);
}

void cpixels_convert(
    const cpixels_color *c, const uint8_t *const planes[3], const ptrdiff_t strides[3], int width, int height,
    int y, int count, uint8_t *target, ptrdiff_t target_stride, float *scratch) {
  if (CPIXELS_HAS_AVX2()) {
    convert_avx2(c, planes, strides, width, height, y, count, target, target_stride, scratch);
  } else {
    convert(c, planes, strides, width, height, y, count, target, target_stride, scratch);
  }
}

int cpixels_composite(
    uint8_t *rgb, const uint16_t *alpha, int width, int largest, int is_premultiplied,
    const uint8_t background[3]) {
  int is_transparent = 0;
  for (int x = 0; x < width; x++) {
    int a = alpha[x];
    if (a >= largest) continue;
    is_transparent = 1;
    for (int channel = 0; channel < 3; channel++) {
      int64_t own = (int64_t)rgb[3 * x + channel] * (is_premultiplied ? largest : a);
      int64_t sum = own + (int64_t)background[channel] * (largest - a);
      int64_t value = (2 * sum + largest) / (2 * (int64_t)largest);
      rgb[3 * x + channel] = (uint8_t)(value > 255 ? 255 : value);
    }
  }
  return is_transparent;
}
