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
#include "deinterlace.h"
#include "pixels.h"

static const int cffmpeg_again = AVERROR(EAGAIN);
static const int cffmpeg_end_of_file = AVERROR_EOF;
static const int cffmpeg_invalid_data = AVERROR_INVALIDDATA;
static const int cffmpeg_out_of_memory = AVERROR(ENOMEM);
static const int64_t cffmpeg_no_timestamp = AV_NOPTS_VALUE;

/// Counts the errors that a decoder reports by FFmpeg's log, in the number that its `opaque` points to. Decoders of several
/// threads work with copies of the context, which have the same `opaque`.
static inline void cffmpeg_count_errors(void *object, int level, const char *format, va_list values) {
  (void)format;
  (void)values;
  if (level > AV_LOG_ERROR || !object || *(const AVClass *const *)object != avcodec_get_class()) return;
  int64_t *count = (int64_t *)((AVCodecContext *)object)->opaque;
  if (count) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

/// Keeps FFmpeg from writing to standard error.
static inline void cffmpeg_take_log(void) { av_log_set_callback(cffmpeg_count_errors); }

static inline int64_t cffmpeg_error_count(const int64_t *count) {
  return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/// Whether a decoder says that a frame is damaged, or was patched up where its data were.
static inline int cffmpeg_is_damaged(const AVFrame *frame) {
  return frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0;
}

/// Whether a frame holds two fields, taken one after the other.
static inline int cffmpeg_is_interlaced(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  return (frame->flags & AV_FRAME_FLAG_INTERLACED) != 0;
#else
  return frame->interlaced_frame;
#endif
}

/// Whether the field of the first row was taken first.
static inline int cffmpeg_is_top_first(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  return (frame->flags & AV_FRAME_FLAG_TOP_FIELD_FIRST) != 0;
#else
  return frame->top_field_first;
#endif
}

/// Says that a frame is one image.
static inline void cffmpeg_set_progressive(AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  frame->flags &= ~(AV_FRAME_FLAG_INTERLACED | AV_FRAME_FLAG_TOP_FIELD_FIRST);
#else
  frame->interlaced_frame = 0;
  frame->top_field_first = 0;
#endif
  frame->repeat_pict = 0;
}

/// Whether a frame can be decoded without others.
static inline int cffmpeg_is_key(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  return (frame->flags & AV_FRAME_FLAG_KEY) != 0;
#else
  return frame->key_frame;
#endif
}

/// The display matrix of a stream: nine numbers, or NULL.
static inline const int32_t *cffmpeg_stream_display_matrix(const AVStream *stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  const AVPacketSideData *data = av_packet_side_data_get(
      stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return data && data->size >= 9 * sizeof(int32_t) ? (const int32_t *)data->data : NULL;
#else
  size_t size = 0;
  const uint8_t *data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data && size >= 9 * sizeof(int32_t) ? (const int32_t *)data : NULL;
#endif
}

/// The display matrix that a decoder attached to a frame (EXIF orientation of a JPEG, SEI of H.264 and HEVC): nine
/// numbers, or NULL.
static inline const int32_t *cffmpeg_frame_display_matrix(const AVFrame *frame) {
  const AVFrameSideData *data = av_frame_get_side_data(frame, AV_FRAME_DATA_DISPLAYMATRIX);
  return data && data->size >= 9 * sizeof(int32_t) ? (const int32_t *)data->data : NULL;
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

/// Gives a stream a display matrix of nine numbers. Returns a negative error code if memory runs out.
static inline int cffmpeg_set_display_matrix(AVStream *stream, const int32_t *matrix) {
  size_t size = 9 * sizeof(int32_t);
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  AVPacketSideData *data = av_packet_side_data_new(
      &stream->codecpar->coded_side_data, &stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX, size, 0);
  if (!data) return AVERROR(ENOMEM);
  memcpy(data->data, matrix, size);
#else
  uint8_t *data = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, size);
  if (!data) return AVERROR(ENOMEM);
  memcpy(data, matrix, size);
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

#define CFFMPEG_ORIENT(SIZE)                                                                      \
  for (int y = 0; y < height; y++) {                                                              \
    const uint8_t *from = source + y * source_stride;                                             \
    uint8_t *to = first + y * per_row;                                                            \
    for (int x = 0; x < width; x++, from += (SIZE), to += per_column) memcpy(to, from, (SIZE)); \
  }

/// Turns and mirrors one plane: the pixel at column x and row y goes to column xx * x + xy * y and row yx * x + yy * y,
/// counted from the center. `width` and `height` are the source's, in pixels of `size` bytes. Here, not in Swift, so that
/// a debug build stays quick.
static inline void cffmpeg_orient_plane(
    const uint8_t *source, ptrdiff_t source_stride, uint8_t *target, ptrdiff_t target_stride, int width,
    int height, int size, int xx, int xy, int yx, int yy) {
  int last_column = (xx ? width : height) - 1, last_row = (yy ? height : width) - 1;
  ptrdiff_t per_column = xx * size + yx * target_stride, per_row = xy * size + yy * target_stride;
  uint8_t *first = target + (xx + xy < 0 ? (ptrdiff_t)last_column * size : 0) +
      (yx + yy < 0 ? last_row * target_stride : 0);
  switch (size) {
    case 1: CFFMPEG_ORIENT(1) break;
    case 2: CFFMPEG_ORIENT(2) break;
    case 3: CFFMPEG_ORIENT(3) break;
    case 4: CFFMPEG_ORIENT(4) break;
    case 6: CFFMPEG_ORIENT(6) break;
    default: CFFMPEG_ORIENT((size_t)size)
  }
}

#endif
