// Loops over pixels that must be fast in every build: resizing, color conversion, compositing. This is a C target, not part of
// the FFmpeg shim, because it is compiled with optimization in debug builds too.
#ifndef CPIXELS_H
#define CPIXELS_H

#include <stddef.h>
#include <stdint.h>

/// One axis of a separable filter: output i is the sum of `count[i]` inputs from `first[i]` on, times the weights that begin at
/// `weights + i * stride`.
typedef struct {
  int outputs;
  const int32_t *first;
  const int32_t *count;
  const float *weights;
  int stride;
} cpixels_axis;

/// The filtering of one frame, which takes its rows in order. Holds the sums of the rows of the output.
typedef struct cpixels_resizer cpixels_resizer;

/// Makes a resizer from frames of RGB with 8 bits to `columns.outputs` x `rows.outputs` pixels. The axes are copied.
/// Returns NULL if memory runs out.
cpixels_resizer *cpixels_resizer_new(int source_width, cpixels_axis columns, cpixels_axis rows);
void cpixels_resizer_free(cpixels_resizer *resizer);
/// Begins another frame.
void cpixels_resizer_begin(cpixels_resizer *resizer);
/// Adds `count` rows of RGB24 of which the first is row `y` of the source. Rows that no output needs may be left out.
void cpixels_resizer_add(cpixels_resizer *resizer, const uint8_t *rgb, ptrdiff_t stride, int y, int count);
/// Writes [3, rows, columns], from -1 to 1, clipped.
void cpixels_resizer_finish(const cpixels_resizer *resizer, float *target);

/// Sizes of tables. Those over light are indexed by a positive float's upper bits: steps per octave, and the range in octaves.
enum {
  CPIXELS_STEPS = 512,
  CPIXELS_LOW_OCTAVE = -28,
  CPIXELS_HIGH_OCTAVE = 7,
  CPIXELS_ENTRIES = CPIXELS_STEPS * (CPIXELS_HIGH_OCTAVE - CPIXELS_LOW_OCTAVE),
  /// Entries of a table of a transfer function, over code values from 0 to 1.
  CPIXELS_CODES = 16385,
};

/// The steps from samples to RGB code values, to display light and to SDR. Pointers are NULL for
/// steps that are left out.
typedef struct {
  /// Bits of each sample, and the bits by which samples are shifted up in their 8- or 16-bit words.
  int depth;
  int shift;
  /// Bytes of each sample: 1 or 2 (little-endian).
  int bytes;
  /// Log2 of how many pixels share a chroma sample, and the place of the first chroma sample in 1/2 pixels (0 or 1).
  int chroma_shift_x, chroma_shift_y, chroma_place_x, chroma_place_y;
  /// Sample values: black and the distance to white, zero and full scale (-0.5 to 0.5) of chroma.
  float black, white, zero, chroma;
  /// Gives the first three values from the samples of plane 0, 1, 2. In constant luminance, used by `red_negative` ...
  float matrix[9];
  /// BT.2020 constant luminance: values are Y', Y' + scale * Cr, Y' + scale * Cb, with scales for negative and positive chroma.
  int constant_luminance;
  float red_negative, red_positive, blue_negative, blue_positive;
  /// The light of a code value, `CPIXELS_CODES` entries for each of three channels. NULL writes
  /// code values unchanged.
  const float *linear[3];
  /// Makes scene or display light of the source's RGB from the three lights (constant luminance, ICtCp).
  float premix[9];
  int has_premix;
  /// HLG: factor of the light by the luminance of the scene (`CPIXELS_ENTRIES`), with the weights of the luminance.
  const float *system_gamma;
  float luminance[3];
  /// Tone curve: factor by the largest of red, green and blue (`CPIXELS_ENTRIES`).
  const float *tone;
  /// From the source's primaries to the target's.
  float gamut[9];
  /// 8-bit code value of light (`CPIXELS_ENTRIES`); light of 1 is 255. Words, which vector instructions can look up.
  const int32_t *encoded;
} cpixels_color;

/// Converts `count` rows from row `y` on of a frame in planes to RGB24. Rows of `target` are those of the frame.
/// `scratch` holds at least 8 * (width + 2) floats.
void cpixels_convert(
    const cpixels_color *color, const uint8_t *const planes[3], const ptrdiff_t strides[3], int width, int height,
    int y, int count, uint8_t *target, ptrdiff_t target_stride, float *scratch);

/// Composites one row of RGB24 on a background: alpha has `largest` for opaque. Returns whether a pixel is not opaque.
int cpixels_composite(
    uint8_t *rgb, const uint16_t *alpha, int width, int largest, int is_premultiplied, const uint8_t background[3]);

#endif
