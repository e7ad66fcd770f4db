// The parts of FFmpeg's headers that Swift can't import: macros that are not plain literals, and
// fields that moved after library version 59 (FFmpeg 5.1).
#ifndef CFFMPEG_SHIM_H
#define CFFMPEG_SHIM_H

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
#include <libavutil/dovi_meta.h>
#include <libavutil/error.h>
#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
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

/// Counts the errors that a decoder or demuxer logs in the number that its `opaque` points to.
/// Decoders with several threads use copies of the context, which have the same `opaque`.
static inline void cffmpeg_count_errors(void *object, int level, const char *format, va_list values) {
  (void)values;
  // References to drop may be missing, as after a cut between keyframes; this doesn't affect any
  // frame.
  if (format && !strncmp(format, "mmco:", 5)) return;
  if (level > AV_LOG_ERROR || !object) return;
  const AVClass *kind = *(const AVClass *const *)object;
  int64_t *count = NULL;
  if (kind == avcodec_get_class()) count = (int64_t *)((AVCodecContext *)object)->opaque;
  if (kind == avformat_get_class()) count = (int64_t *)((AVFormatContext *)object)->opaque;
  if (count) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

/// Replaces FFmpeg's log to standard error by counting.
static inline void cffmpeg_take_log(void) { av_log_set_callback(cffmpeg_count_errors); }

static inline int64_t cffmpeg_error_count(const int64_t *count) {
  return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/// Whether a decoder marks a frame as damaged or concealed.
static inline int cffmpeg_is_damaged(const AVFrame *frame) {
  return frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0;
}

/// Whether a frame consists of two fields, captured one after the other.
static inline int cffmpeg_is_interlaced(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  return (frame->flags & AV_FRAME_FLAG_INTERLACED) != 0;
#else
  return frame->interlaced_frame;
#endif
}

/// Whether the field of the first row was captured first.
static inline int cffmpeg_is_top_first(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
  return (frame->flags & AV_FRAME_FLAG_TOP_FIELD_FIRST) != 0;
#else
  return frame->top_field_first;
#endif
}

/// Marks a frame as progressive.
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

/// Copies the display matrix of a stream to another, if avcodec_parameters_copy doesn't. Returns a
/// negative error code if memory runs out.
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

/// Sets the display matrix of a stream, nine numbers. Returns a negative error code if memory runs
/// out.
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

/// The side data of a stream; NULL if it has none of the type.
static inline const uint8_t *cffmpeg_stream_side_data(
    const AVStream *stream, enum AVPacketSideDataType type, size_t *size) {
  *size = 0;
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  const AVPacketSideData *data = av_packet_side_data_get(
      stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, type);
  if (!data) return NULL;
  *size = data->size;
  return data->data;
#else
  return av_stream_get_side_data(stream, type, size);
#endif
}

/// The byte that marks a position in a buffer that a decoder has not written to yet.
static inline uint8_t cffmpeg_mark(int x, int y) { return (uint8_t)((x * 167 + y * 89 + 13) ^ (x >> 3)); }

/// Allocates a decoder's buffer with a marked first plane; for AVCodecContext.get_buffer2.
static inline int cffmpeg_marked_buffer(AVCodecContext *codec, AVFrame *frame, int flags) {
  int status = avcodec_default_get_buffer2(codec, frame, flags);
  if (status < 0 || !frame->data[0]) return status;
  int bytes = av_image_get_linesize((enum AVPixelFormat)frame->format, frame->width, 0);
  for (int y = 0; y < frame->height; y++)
    for (int x = 0; x < bytes; x++) frame->data[0][y * (ptrdiff_t)frame->linesize[0] + x] = cffmpeg_mark(x, y);
  return status;
}

/// Whether a decoder returned a frame with a marked buffer that it has not written to.
static inline int cffmpeg_is_unwritten(const AVFrame *frame) {
  int bytes = av_image_get_linesize((enum AVPixelFormat)frame->format, frame->width, 0);
  if (!frame->data[0] || bytes <= 0 || (int64_t)bytes * frame->height < 16) return 0;
  for (int y = 0; y < frame->height; y++)
    for (int x = 0; x < bytes; x++)
      if (frame->data[0][y * (ptrdiff_t)frame->linesize[0] + x] != cffmpeg_mark(x, y)) return 0;
  return 1;
}

/// The profile of a Dolby Vision stream; -1 for others.
static inline int cffmpeg_dolby_vision_profile(const AVStream *stream) {
  size_t size = 0;
  const uint8_t *data = cffmpeg_stream_side_data(stream, AV_PKT_DATA_DOVI_CONF, &size);
  if (!data || size < sizeof(AVDOVIDecoderConfigurationRecord)) return -1;
  return ((const AVDOVIDecoderConfigurationRecord *)data)->dv_profile;
}

/// Reads one component of a row into values of `size` bytes (2 or 4).
static inline void cffmpeg_read_line(
    void *target, const uint8_t *const *planes, const int *strides, const AVPixFmtDescriptor *layout, int x, int y,
    int component, int width, int size) {
  av_read_image_line2(target, (const uint8_t **)planes, strides, layout, x, y, component, width, 0, size);
}

/// Converts rows of a frame with 8-bit planes; `target` contains only the rows of the strip.
static inline int cffmpeg_scale_strip(
    struct SwsContext *scaler, const AVFrame *frame, int y, int count, uint8_t *target, int stride) {
  const AVPixFmtDescriptor *layout = av_pix_fmt_desc_get((enum AVPixelFormat)frame->format);
  const uint8_t *planes[4] = {NULL};
  for (int plane = 0; plane < 3; plane++) {
    int row = plane == 0 ? y : y >> layout->log2_chroma_h;
    planes[plane] = frame->data[plane] + row * (ptrdiff_t)frame->linesize[plane];
  }
  // The pointer is moved so that rows have their positions in the complete frame.
  uint8_t *targets[4] = {target - y * (ptrdiff_t)stride, NULL, NULL, NULL};
  int strides[4] = {stride, 0, 0, 0};
  return sws_scale(scaler, planes, frame->linesize, y, count, targets, strides);
}

/// The luminance of the brightest pixel (MaxCLL) and of the mastering display's white in nits, from
/// a frame or else its stream; 0 if unknown. `stream` may be NULL.
static inline void cffmpeg_peak(const AVFrame *frame, const AVStream *stream, double *brightest, double *display) {
  *brightest = *display = 0;
  size_t size = 0;
  const AVFrameSideData *data = av_frame_get_side_data(frame, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL);
  const uint8_t *bytes = data ? data->data : NULL;
  if (data) size = data->size;
  if (!bytes && stream) bytes = cffmpeg_stream_side_data(stream, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, &size);
  if (bytes && size >= sizeof(AVContentLightMetadata))
    *brightest = ((const AVContentLightMetadata *)bytes)->MaxCLL;
  data = av_frame_get_side_data(frame, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA);
  bytes = data ? data->data : NULL;
  size = data ? data->size : 0;
  if (!bytes && stream)
    bytes = cffmpeg_stream_side_data(stream, AV_PKT_DATA_MASTERING_DISPLAY_METADATA, &size);
  if (bytes && size >= sizeof(AVMasteringDisplayMetadata)) {
    const AVMasteringDisplayMetadata *mastering = (const AVMasteringDisplayMetadata *)bytes;
    if (mastering->has_luminance && mastering->max_luminance.den > 0)
      *display = av_q2d(mastering->max_luminance);
  }
}

/// Copies the brightness metadata of HDR from a frame or its stream to a stream being written: the
/// mastering display and the content light level. Returns a negative error code if memory runs out.
static inline int cffmpeg_copy_light_metadata(AVStream *to, const AVFrame *frame, const AVStream *from) {
  static const struct {
    enum AVFrameSideDataType frame;
    enum AVPacketSideDataType packet;
  } types[] = {
      {AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, AV_PKT_DATA_MASTERING_DISPLAY_METADATA},
      {AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, AV_PKT_DATA_CONTENT_LIGHT_LEVEL},
  };
  for (int i = 0; i < 2; i++) {
    const AVFrameSideData *own = av_frame_get_side_data(frame, types[i].frame);
    size_t size = own ? own->size : 0;
    const uint8_t *bytes = own ? own->data : cffmpeg_stream_side_data(from, types[i].packet, &size);
    if (!bytes || !size) continue;
#if LIBAVFORMAT_VERSION_MAJOR >= 61
    AVPacketSideData *copy = av_packet_side_data_new(
        &to->codecpar->coded_side_data, &to->codecpar->nb_coded_side_data, types[i].packet, size, 0);
    if (!copy) return AVERROR(ENOMEM);
    memcpy(copy->data, bytes, size);
#else
    uint8_t *copy = av_stream_new_side_data(to, types[i].packet, size);
    if (!copy) return AVERROR(ENOMEM);
    memcpy(copy, bytes, size);
#endif
  }
  return 0;
}

/// The duration of a frame in the stream's time base; 0 if unknown.
static inline int64_t cffmpeg_frame_duration(const AVFrame *frame) {
#if LIBAVUTIL_VERSION_MAJOR >= 58
  return frame->duration;
#else
  return frame->pkt_duration;
#endif
}

/// Extracts the upper bytes of red, green and blue from pixels of `channels` 16-bit values; `upper`
/// is 0 or 1, the position of a value's upper byte.
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

/// Rotates and mirrors a plane: the pixel at column x and row y moves to column xx * x + xy * y and
/// row yx * x + yy * y, counted from the center. `width` and `height` are the source's, in pixels
/// of `size` bytes. This is in C, so that a debug build is fast.
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
