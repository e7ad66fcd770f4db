// Loops over pixels that must be fast in every build: resizing, color conversion, compositing. They
// are in a C target of their own, not in the FFmpeg shim, because it is compiled with optimization
// in debug builds too.
#ifndef CPIXELS_H
#define CPIXELS_H

#include <stddef.h>
#include <stdint.h>

/// One axis of a separable filter: output i is the sum of `count[i]` inputs from `first[i]`,
/// multiplied by the weights that begin at `weights + i * stride`.
typedef struct {
  int outputs;
  const int32_t *first;
  const int32_t *count;
  const float *weights;
  int stride;
} cpixels_axis;

/// The state of filtering one frame, whose rows are added in order. Holds the sums of the output's
/// rows.
typedef struct cpixels_resizer cpixels_resizer;

/// Creates a resizer from 8-bit RGB frames to `columns.outputs` x `rows.outputs` pixels. The axes
/// are copied. Returns NULL if memory runs out.
cpixels_resizer *cpixels_resizer_new(int source_width, cpixels_axis columns, cpixels_axis rows);
void cpixels_resizer_free(cpixels_resizer *resizer);
/// Begins another frame.
void cpixels_resizer_begin(cpixels_resizer *resizer);
/// Adds `count` rows of RGB24, starting with row `y` of the source. Rows that no output needs may
/// be skipped.
void cpixels_resizer_add(cpixels_resizer *resizer, const uint8_t *rgb, ptrdiff_t stride, int y, int count);
/// Writes [3, rows, columns], from -1 to 1, clipped.
void cpixels_resizer_finish(const cpixels_resizer *resizer, float *target);

/// The sizes of tables. Tables over light are indexed by a positive float's upper bits: steps per
/// octave, and the range in octaves.
enum {
  CPIXELS_STEPS = 512,
  CPIXELS_LOW_OCTAVE = -28,
  CPIXELS_HIGH_OCTAVE = 7,
  CPIXELS_ENTRIES = CPIXELS_STEPS * (CPIXELS_HIGH_OCTAVE - CPIXELS_LOW_OCTAVE),
  /// The entries of a transfer function's table, over code values from 0 to 1.
  CPIXELS_CODES = 16385,
};

/// The steps from samples to RGB code values, to display light and to SDR. Pointers are NULL for
/// steps to skip.
typedef struct {
  /// The bits of each sample, and the number of bits by which samples are shifted left in their 8-
  /// or 16-bit words.
  int depth;
  int shift;
  /// The bytes of each sample: 1 or 2 (little-endian).
  int bytes;
  /// The log2 of the number of pixels that share a chroma sample, and the position of the first one
  /// in half pixels (0 or 1).
  int chroma_shift_x, chroma_shift_y, chroma_place_x, chroma_place_y;
  /// Sample values: black and its distance to white, zero and the full range (-0.5 to 0.5) of
  /// chroma.
  float black, white, zero, chroma;
  /// Computes the first three values from the samples of planes 0, 1, 2. Not used for constant
  /// luminance.
  float matrix[9];
  /// BT.2020 constant luminance: values are Y', Y' + scale * Cr, Y' + scale * Cb, with scales for negative and positive chroma.
  int constant_luminance;
  float red_negative, red_positive, blue_negative, blue_positive;
  /// The light of a code value, `CPIXELS_CODES` entries for each of three channels. NULL leaves
  /// code values unchanged.
  const float *linear[3];
  /// Converts the three lights to scene or display light of the source's RGB (constant luminance,
  /// ICtCp).
  float premix[9];
  int has_premix;
  /// For HLG: the factor of the light by the luminance of the scene (`CPIXELS_ENTRIES`), and the
  /// weights of the luminance.
  const float *system_gamma;
  float luminance[3];
  /// The tone curve: a factor by the largest of red, green and blue (`CPIXELS_ENTRIES`).
  const float *tone;
  /// The matrix from the source's primaries to the target's.
  float gamut[9];
  /// The 8-bit code value of light (`CPIXELS_ENTRIES`); light of 1 is 255. 32-bit, because vector
  /// instructions can look that up.
  const int32_t *encoded;
} cpixels_color;

/// Converts `count` rows, from row `y`, of a planar frame to RGB24. Rows of `target` are those of
/// the frame. `scratch` has at least 8 * (width + 2) floats.
void cpixels_convert(
    const cpixels_color *color, const uint8_t *const planes[3], const ptrdiff_t strides[3], int width, int height,
    int y, int count, uint8_t *target, ptrdiff_t target_stride, float *scratch);

/// Composites a row of RGB24 on a background; `largest` is the alpha of an opaque pixel. Returns
/// whether any pixel is not opaque.
int cpixels_composite(
    uint8_t *rgb, const uint16_t *alpha, int width, int largest, int is_premultiplied, const uint8_t background[3]);

#endif
