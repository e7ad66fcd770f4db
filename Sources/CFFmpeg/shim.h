// What Swift cannot import from FFmpeg's headers: macros that are not plain literals, and fields that moved
// between the library versions 59 (FFmpeg 5.1) and later.
#ifndef CFFMPEG_SHIM_H
#define CFFMPEG_SHIM_H

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
#include <libavutil/error.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libavutil/samplefmt.h>
#include <libavutil/sha.h>
#include <libswresample/swresample.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <string.h>
#include "pixels.h"

static const int cffmpeg_again = AVERROR(EAGAIN);
static const int cffmpeg_end_of_file = AVERROR_EOF;
static const int cffmpeg_invalid_data = AVERROR_INVALIDDATA;
static const int cffmpeg_out_of_memory = AVERROR(ENOMEM);
static const int64_t cffmpeg_no_timestamp = AV_NOPTS_VALUE;

/// Rotation in whole quarter turns, clockwise, that shows the picture upright: 0, 1, 2 or 3. A matrix that
/// mirrors, or turns by another angle, counts as 0.
static inline int cffmpeg_quarter_turns(const int32_t *matrix) {
  double determinant = (double)matrix[0] * matrix[4] - (double)matrix[1] * matrix[3];
  if (determinant <= 0) return 0;
  double degrees = -av_display_rotation_get(matrix);
  if (isnan(degrees)) return 0;
  double turns = degrees / 90.0;
  double nearest = round(turns);
  if (fabs(turns - nearest) > 0.02) return 0;
  return (((int)nearest % 4) + 4) % 4;
}

/// The display matrix of a stream as quarter turns (see cffmpeg_quarter_turns).
static inline int cffmpeg_stream_quarter_turns(const AVStream *stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  const AVPacketSideData *data = av_packet_side_data_get(
      stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  if (!data || data->size < 9 * sizeof(int32_t)) return 0;
  return cffmpeg_quarter_turns((const int32_t *)data->data);
#else
  size_t size = 0;
  const uint8_t *data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (!data || size < 9 * sizeof(int32_t)) return 0;
  return cffmpeg_quarter_turns((const int32_t *)data);
#endif
}

/// Gives a stream the display matrix of another, where avcodec_parameters_copy does not.
/// Returns a negative error code if memory runs out.
static inline int cffmpeg_copy_display_matrix(AVStream *to, const AVStream *from) {
#if LIBAVFORMAT_VERSION_MAJOR < 61
  size_t size = 0;
  const uint8_t *data = av_stream_get_side_data(from, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (!data) return 0;
  uint8_t *copy = av_stream_new_side_data(to, AV_PKT_DATA_DISPLAYMATRIX, size);
  if (!copy) return AVERROR(ENOMEM);
  memcpy(copy, data, size);
#endif
  return 0;
}

/// How long a frame is played, in the stream's time base; 0 where that is not known.
static inline int64_t cffmpeg_frame_duration(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_MAJOR >= 58
  return frame->duration;
#else
  return frame->pkt_duration;
#endif
}

/// The display matrix that a decoder attached to a frame (EXIF orientation of a JPEG), as quarter turns. Where the matrix
/// mirrors, `mirrors` becomes 1, and the turns are those that follow after left and right have been exchanged.
static inline int cffmpeg_frame_quarter_turns(const AVFrame *frame, int *mirrors) {
  *mirrors = 0;
  const AVFrameSideData *data = av_frame_get_side_data(frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (!data || data->size < 9 * sizeof(int32_t)) return 0;
  int32_t matrix[9];
  memcpy(matrix, data->data, sizeof(matrix));
  if ((double)matrix[0] * matrix[4] < (double)matrix[1] * matrix[3]) {
    *mirrors = 1;
    matrix[0] = -matrix[0];
    matrix[1] = -matrix[1];
  }
  return cffmpeg_quarter_turns(matrix);
}

/// Takes the upper bytes of red, green and blue from pixels of `channels` 16-bit values; `upper` is 0 or 1, the place of
/// a value's upper byte.
static inline void cffmpeg_upper_bytes(
    const uint8_t *source, ptrdiff_t source_stride, uint8_t *target, ptrdiff_t target_stride, int width,
    int height, int channels, int upper) {
  for (int y = 0; y < height; y++) {
    const uint8_t *from = source + y * source_stride + upper;
    uint8_t *to = target + y * target_stride;
    for (int x = 0; x < width; x++, from += 2 * channels, to += 3) {
      to[0] = from[0];
      to[1] = from[2];
      to[2] = from[4];
    }
  }
}

/// Exchanges left and right of a plane in place.
static inline void cffmpeg_mirror_plane(uint8_t *plane, ptrdiff_t stride, int width, int height, int size) {
  for (int y = 0; y < height; y++) {
    uint8_t *left = plane + y * stride, *right = left + (ptrdiff_t)(width - 1) * size;
    for (; left < right; left += size, right -= size) {
      for (int i = 0; i < size; i++) {
        uint8_t byte = left[i];
        left[i] = right[i];
        right[i] = byte;
      }
    }
  }
}

/// Turns one plane clockwise by `turns` quarters (1, 2 or 3). `width` and `height` are the source's, in
/// pixels of `size` bytes. Here, not in Swift, so that a debug build stays quick.
static inline void cffmpeg_turn_plane(
    const uint8_t *source, ptrdiff_t source_stride, uint8_t *target, ptrdiff_t target_stride, int width,
    int height, int size, int turns) {
  for (int y = 0; y < height; y++) {
    const uint8_t *from = source + y * source_stride;
    for (int x = 0; x < width; x++, from += size) {
      ptrdiff_t row = turns == 1 ? x : turns == 2 ? height - 1 - y : width - 1 - x;
      ptrdiff_t column = turns == 1 ? height - 1 - y : turns == 2 ? width - 1 - x : y;
      uint8_t *to = target + row * target_stride + column * size;
      for (int i = 0; i < size; i++) to[i] = from[i];
    }
  }
}

#endif
