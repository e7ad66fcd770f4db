#include <stdlib.h>
#include <string.h>
#include "cpixels.h"
#include "dispatch.h"

// The vertical filter comes first: it processes complete rows, and leaves few rows for the
// horizontal one. Source rows are processed `slice` at a time, so that they and the sums of their
// outputs stay in the processor's caches.
//
// In the horizontal filter, each channel of an output is the sum of every third product of a run of
// values. For long filters, sums are kept for 24 positions: three vectors of eight.
enum { lanes = 24, slice = 8, block = 32, long_filter = 48 };

struct cpixels_resizer {
  cpixels_axis columns, rows;
  /// For long filters, the weights of the columns, each repeated three times, padded with zeros to
  /// whole runs; otherwise NULL.
  float *repeated;
  int run;
  /// The needed values of a row: from the first to the end, padded to whole blocks.
  int first_value, values, padded;
  /// The source rows as floats; the sums of unfinished outputs, with output i at i % `open`; the
  /// result.
  float *source, *sums, *result;
  size_t sums_stride;
  int open;
  /// The first unfinished output, and the first that has not been started.
  int first_open, first_new;
};

static int copy_axis(cpixels_axis *to, cpixels_axis from) {
  *to = from;
  size_t n = (size_t)from.outputs;
  int32_t *first = malloc(n * sizeof(int32_t)), *count = malloc(n * sizeof(int32_t));
  float *weights = malloc(n * (size_t)from.stride * sizeof(float));
  to->first = first;
  to->count = count;
  to->weights = weights;
  if (!first || !count || !weights) return 0;
  memcpy(first, from.first, n * sizeof(int32_t));
  memcpy(count, from.count, n * sizeof(int32_t));
  memcpy(weights, from.weights, n * (size_t)from.stride * sizeof(float));
  return 1;
}

static void free_axis(cpixels_axis *axis) {
  free((void *)axis->first);
  free((void *)axis->count);
  free((void *)axis->weights);
}

/// The maximum number of unfinished outputs while a slice of rows is added.
static int most_open(const cpixels_axis *rows) {
  int most = 1;
  for (int line = 0, last = 0; line < rows->outputs; line++) {
    int end = rows->first[line] + rows->count[line] + slice;
    while (last < rows->outputs && rows->first[last] < end) last++;
    if (last - line > most) most = last - line;
  }
  return most;
}

cpixels_resizer *cpixels_resizer_new(int source_width, cpixels_axis columns, cpixels_axis rows) {
  cpixels_resizer *r = calloc(1, sizeof(*r));
  if (!r) return NULL;
  int copied = copy_axis(&r->columns, columns) & copy_axis(&r->rows, rows);
  int most = 1, first = source_width, end = 0;
  for (int x = 0; x < columns.outputs; x++) {
    if (columns.count[x] > most) most = columns.count[x];
    if (columns.first[x] < first) first = columns.first[x];
    if (columns.first[x] + columns.count[x] > end) end = columns.first[x] + columns.count[x];
  }
  r->run = (3 * most + lanes - 1) / lanes * lanes;
  r->first_value = 3 * first;
  r->values = 3 * (end - first);
  r->padded = (r->values + block - 1) / block * block;
  r->open = most_open(&rows);
  r->sums_stride = (size_t)r->padded + (size_t)r->run;
  size_t width = (size_t)columns.outputs;
  int is_long = most > long_filter;
  if (is_long) r->repeated = calloc(width * (size_t)r->run, sizeof(float));
  r->source = calloc((size_t)slice * (size_t)r->padded, sizeof(float));
  r->sums = calloc((size_t)r->open * r->sums_stride, sizeof(float));
  r->result = calloc(3 * width * (size_t)rows.outputs, sizeof(float));
  if (!copied || (is_long && !r->repeated) || !r->source || !r->sums || !r->result) {
    cpixels_resizer_free(r);
    return NULL;
  }
  for (int x = 0; is_long && x < columns.outputs; x++) {
    float *to = r->repeated + (size_t)x * (size_t)r->run;
    for (int k = 0; k < columns.count[x]; k++) {
      float weight = columns.weights[(size_t)x * (size_t)columns.stride + (size_t)k];
      to[3 * k] = to[3 * k + 1] = to[3 * k + 2] = weight;
    }
  }
  return r;
}

void cpixels_resizer_free(cpixels_resizer *r) {
  if (!r) return;
  free_axis(&r->columns);
  free_axis(&r->rows);
  free(r->repeated);
  free(r->source);
  free(r->sums);
  free(r->result);
  free(r);
}

void cpixels_resizer_begin(cpixels_resizer *r) { r->first_open = r->first_new = 0; }

/// Filters the sums of an output row, and writes it from -1 to 1.
CPIXELS_INLINE void finish_row(cpixels_resizer *r, int line) {
  const int width = r->columns.outputs;
  const size_t plane = (size_t)width * (size_t)r->rows.outputs;
  const float *sums = r->sums + (size_t)(line % r->open) * r->sums_stride - r->first_value;
  float *result = r->result + (size_t)width * (size_t)line;
  for (int x = 0; x < width; x++) {
    const float *restrict start = sums + 3 * r->columns.first[x];
    float pixel[4] = {0};
    if (r->repeated) {
      const float *restrict weights = r->repeated + (size_t)x * (size_t)r->run;
      float products[lanes] = {0};
      int length = 3 * r->columns.count[x];
      for (int i = 0; i < length; i += lanes)
        for (int lane = 0; lane < lanes; lane++) products[lane] += weights[i + lane] * start[i + lane];
      for (int lane = 0; lane < lanes; lane++) pixel[lane % 3] += products[lane];
    } else {
      // One pixel and the first value of the next one at a time.
      const float *restrict weights = r->columns.weights + (size_t)x * (size_t)r->columns.stride;
      float other[4] = {0};
      int count = r->columns.count[x], k = 0;
      for (; k + 2 <= count; k += 2)
        for (int lane = 0; lane < 4; lane++) {
          pixel[lane] += weights[k] * start[3 * k + lane];
          other[lane] += weights[k + 1] * start[3 * k + 3 + lane];
        }
      for (; k < count; k++)
        for (int lane = 0; lane < 4; lane++) pixel[lane] += weights[k] * start[3 * k + lane];
      for (int lane = 0; lane < 4; lane++) pixel[lane] += other[lane];
    }
    for (int channel = 0; channel < 3; channel++) {
      float sum = pixel[channel] / 255;
      sum = sum < 0 ? 0 : sum > 1 ? 1 : sum;
      result[(size_t)channel * plane + (size_t)x] = sum * 2 - 1;
    }
  }
}

/// Adds at most a slice of rows.
CPIXELS_INLINE void add_slice(cpixels_resizer *r, const uint8_t *rgb, ptrdiff_t stride, int y, int count) {
  const cpixels_axis *rows = &r->rows;
  const int values = r->values, padded = r->padded;
  for (int row = 0; row < count; row++) {
    const uint8_t *restrict from = rgb + row * stride + r->first_value;
    float *restrict to = r->source + (size_t)row * (size_t)padded;
    for (int i = 0; i < values; i++) to[i] = (float)from[i];
  }
  for (int line = r->first_open; line < rows->outputs && rows->first[line] < y + count; line++) {
    int end = rows->first[line] + rows->count[line];
    int from = rows->first[line] > y ? rows->first[line] : y, to = end < y + count ? end : y + count;
    float *restrict sums = r->sums + (size_t)(line % r->open) * r->sums_stride;
    const float *weights = rows->weights + (size_t)line * (size_t)rows->stride - rows->first[line];
    int is_new = line >= r->first_new;
    if (is_new) r->first_new = line + 1;
    for (int i = 0; i < padded && from < to; i += block) {
      float part[block];
      for (int lane = 0; lane < block; lane++) part[lane] = is_new ? 0 : sums[i + lane];
      for (int row = from; row < to; row++) {
        const float *restrict source = r->source + (size_t)(row - y) * (size_t)padded + i;
        const float weight = weights[row];
        for (int lane = 0; lane < block; lane++) part[lane] += weight * source[lane];
      }
      for (int lane = 0; lane < block; lane++) sums[i + lane] = part[lane];
    }
    if (end <= y + count) {
      finish_row(r, line);
      r->first_open = line + 1;
    }
  }
}

CPIXELS_INLINE void add_rows(cpixels_resizer *r, const uint8_t *rgb, ptrdiff_t stride, int y, int count) {
  while (count > 0 && r->first_open < r->rows.outputs) {
    int rows = count < slice ? count : slice;
    if (r->rows.first[r->first_open] < y + rows) add_slice(r, rgb, stride, y, rows);
    rgb += rows * stride;
    y += rows;
    count -= rows;
  }
}

CPIXELS_AVX2 static void add_rows_avx2(cpixels_resizer *r, const uint8_t *rgb, ptrdiff_t stride, int y, int count) {
  add_rows(r, rgb, stride, y, count);
}

void cpixels_resizer_add(cpixels_resizer *r, const uint8_t *rgb, ptrdiff_t stride, int y, int count) {
  if (CPIXELS_HAS_AVX2()) {
    add_rows_avx2(r, rgb, stride, y, count);
  } else {
    add_rows(r, rgb, stride, y, count);
  }
}

void cpixels_resizer_finish(const cpixels_resizer *r, float *target) {
  memcpy(target, r->result, 3 * (size_t)r->columns.outputs * (size_t)r->rows.outputs * sizeof(float));
}
