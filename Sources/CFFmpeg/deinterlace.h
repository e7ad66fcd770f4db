// Deinterlacing: the BBC's Weston three-field filter (PH-2071), limited by the differences over
// time like in yadif. The arithmetic is that of FFmpeg's filter `bwdif`. It is in C, like other
// loops over pixels, so that a debug build is fast.
#ifndef CFFMPEG_DEINTERLACE_H
#define CFFMPEG_DEINTERLACE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline int cffmpeg_least(int a, int b) { return a < b ? a : b; }
static inline int cffmpeg_most(int a, int b) { return a > b ? a : b; }
static inline int cffmpeg_distance(int a, int b) { return a > b ? a - b : b - a; }

// Computes a missing row only from rows of its own frame, up to three rows away.
#define CFFMPEG_FILL_ROW(SAMPLE)                                                                      \
  for (int x = 0; x < count; x++) {                                                                   \
    int value = (5077 * (current[x + above] + current[x + below]) -                                   \
                 981 * (current[x + above3] + current[x + below3])) >> 13;                            \
    target[x] = (SAMPLE)(value < 0 ? 0 : value > most ? most : value);                                \
  }

// `before` and `after` are the frames in which the missing row was captured, just before and just
// after the row's time; `previous` and `next` are the neighboring frames. Rows are given as
// distances in samples.
#define CFFMPEG_DEINTERLACE_ROW(SAMPLE, IS_EDGE)                                                      \
  for (int x = 0; x < count; x++) {                                                                   \
    int c = current[x + above], e = current[x + below];                                               \
    int d = (before[x] + after[x]) >> 1;                                                              \
    int change = cffmpeg_distance(before[x], after[x]);                                               \
    int change1 = (cffmpeg_distance(previous[x + above], c) + cffmpeg_distance(previous[x + below], e)) >> 1; \
    int change2 = (cffmpeg_distance(next[x + above], c) + cffmpeg_distance(next[x + below], e)) >> 1; \
    int range = cffmpeg_most(cffmpeg_most(change >> 1, change1), change2);                            \
    if (!range) {                                                                                     \
      target[x] = (SAMPLE)d;                                                                          \
      continue;                                                                                       \
    }                                                                                                 \
    if (checks) {                                                                                     \
      int b = ((before[x + above2] + after[x + above2]) >> 1) - c;                                    \
      int f = ((before[x + below2] + after[x + below2]) >> 1) - e;                                    \
      int dc = d - c, de = d - e;                                                                     \
      int top = cffmpeg_most(cffmpeg_most(de, dc), cffmpeg_least(b, f));                              \
      int bottom = cffmpeg_least(cffmpeg_least(de, dc), cffmpeg_most(b, f));                          \
      range = cffmpeg_most(cffmpeg_most(range, bottom), -top);                                        \
    }                                                                                                 \
    int value;                                                                                        \
    if (IS_EDGE) {                                                                                    \
      value = (c + e) >> 1;                                                                           \
    } else if (cffmpeg_distance(c, e) > change) {                                                     \
      value = (((5570 * (before[x] + after[x]) -                                                      \
                 3801 * (before[x + above2] + after[x + above2] + before[x + below2] + after[x + below2]) + \
                 1016 * (before[x + above4] + after[x + above4] + before[x + below4] + after[x + below4])) >> 2) + \
               4309 * (c + e) - 213 * (current[x + above3] + current[x + below3])) >> 13;             \
    } else {                                                                                          \
      value = (5077 * (c + e) - 981 * (current[x + above3] + current[x + below3])) >> 13;             \
    }                                                                                                 \
    value = value > d + range ? d + range : value < d - range ? d - range : value;                    \
    target[x] = (SAMPLE)(value < 0 ? 0 : value > most ? most : value);                                \
  }

// The distances to the rows around row y, mirrored at the borders.
#define CFFMPEG_DEINTERLACE_PLANE(NAME, SAMPLE)                                                       \
  static inline void NAME(                                                                            \
      const SAMPLE *previous_plane, const SAMPLE *current_plane, const SAMPLE *next_plane,            \
      ptrdiff_t stride, SAMPLE *target_plane, ptrdiff_t target_stride, int count, int height,         \
      int keeps_top, int is_alone, int most) {                                                        \
    for (int y = 0; y < height; y++) {                                                                \
      const SAMPLE *current = current_plane + y * stride;                                             \
      SAMPLE *target = target_plane + y * target_stride;                                              \
      if (y % 2 == (keeps_top ? 0 : 1) || height < 2) {                                               \
        memcpy(target, current, (size_t)count * sizeof(SAMPLE));                                      \
        continue;                                                                                     \
      }                                                                                               \
      const SAMPLE *previous = previous_plane + y * stride, *next = next_plane + y * stride;          \
      const SAMPLE *before = previous, *after = current;                                              \
      ptrdiff_t below = y + 1 < height ? stride : -stride, above = y > 0 ? -stride : stride;          \
      ptrdiff_t below2 = y + 2 < height ? 2 * stride : 0, above2 = y > 1 ? -2 * stride : 0;           \
      ptrdiff_t below3 = y + 3 < height ? 3 * stride : -stride, above3 = y > 2 ? -3 * stride : stride; \
      ptrdiff_t below4 = 4 * stride, above4 = -4 * stride;                                            \
      int is_edge = y < 4 || y + 5 > height, checks = !(y < 2 || y + 3 > height);                     \
      if (is_alone) {                                                                                 \
        CFFMPEG_FILL_ROW(SAMPLE)                                                                      \
      } else if (is_edge) {                                                                           \
        CFFMPEG_DEINTERLACE_ROW(SAMPLE, 1)                                                            \
      } else {                                                                                        \
        CFFMPEG_DEINTERLACE_ROW(SAMPLE, 0)                                                            \
      }                                                                                               \
    }                                                                                                 \
  }

/// Turns the first field into a complete image; the rows of the other field are computed from their
/// neighbors in the frame and in time. Strides are in samples, and `count` is the number of samples
/// per row. With `is_alone`, only the frame itself is used.
CFFMPEG_DEINTERLACE_PLANE(cffmpeg_deinterlace_bytes, uint8_t)
/// The same for samples of 9 to 16 bits.
CFFMPEG_DEINTERLACE_PLANE(cffmpeg_deinterlace_words, uint16_t)

#endif
