import LTX
import Media
import Support

/// Checks what is known of a result, and lists what of it is to be encoded.
struct ConditionPlan {
  private let request: GenerationRequest
  private let defaults: GenerationDefaults
  private let size: GenerationPlan.OutputSize
  private let referenceScale: (spatial: Int, temporal: Int)
  /// The sound that the result has as it is: one that was given, or that of a video whose pictures
  /// alone are edited.
  let givenAudio: GenerationCondition?
  private(set) var videos: [GenerationStage.VideoEncoding] = []
  private(set) var audio: [GenerationStage.AudioEncoding] = []

  init(
    _ request: GenerationRequest, _ defaults: GenerationDefaults, _ size: GenerationPlan.OutputSize,
    _ referenceScale: (spatial: Int, temporal: Int)
  ) throws {
    givenAudio = try request.conditions.lazy.compactMap { condition in
      switch condition {
      case .audio: condition
      case .inpaint(let path, _): try GivenVideo(condition).hasAudio ? .audio(path: path) : nil
      default: nil
      }
    }.first
    self.request = request
    self.defaults = defaults
    self.size = size
    self.referenceScale = referenceScale
  }

  /// The file whose pictures the result has.
  var givenImage: String? {
    for case .video(let path) in request.conditions { return path }
    return nil
  }

  /// Adds what a sampling knows of the video. References are shown to the first one only.
  mutating func addVideos(
    sampling: Int, grid: VideoGrid, refines: Bool, _ notes: inout [String]
  ) throws {
    for condition in request.conditions {
      if sampling == 0 {
        try check(condition, grid, &notes)
        if !condition.isAudio { try requireShapes(condition) }
      }
      var encoding = GenerationStage.VideoEncoding(
        condition: condition, sampling: sampling, grid: grid, crf: 0)
      switch condition {
      case .image(_, _, _, let crf): encoding.crf = crf ?? defaults.imageCRF
      case .firstFrame, .prefix, .suffix, .retake, .inpaint, .keep, .crop, .video: break
      case .reference(_, _, let scale, _):
        guard !refines else { continue }
        encoding.spatialScale = scale?.space ?? referenceScale.spatial
        encoding.temporalScale = scale?.time ?? referenceScale.temporal
        encoding.attention = request.referenceAttention
      case .audio, .audioPrefix, .audioSuffix, .audioKeep, .audioReference: continue
      }
      videos.append(encoding)
    }
  }

  /// Adds what is known of the sound.
  mutating func addAudio(_ grid: AudioGrid, _ notes: inout [String]) throws {
    guard request.conditions.count(where: { if case .audio = $0 { true } else { false } }) <= 1
    else {
      throw GenerationError(.audio, "only one sound can be given")
    }
    if case .audio(let path, let start)? = givenAudio { try checkAudio(path, start, &notes) }
    if let givenAudio {
      audio = [
        GenerationStage.AudioEncoding(
          condition: givenAudio, grid: grid, seconds: size.seconds)
      ]
      return
    }
    for condition in request.conditions {
      switch condition {
      case .retake(let path, _, _):
        guard try GivenVideo(condition).hasAudio else {
          notes.append("\(path): has no sound; the result's is made anew from end to end")
          continue
        }
      case .audioPrefix(let path, let seconds), .audioSuffix(let path, let seconds):
        try checkEnd(condition, path, seconds)
      case .audioKeep(let path, let mask):
        try checkAudio(path, 0, &notes, condition.option)
        do { _ = try AudioMask(path: mask) } catch { throw GenerationError(.mask, describe(error)) }
      case .audioReference(let path): _ = try reader(path, condition.option)
      case .image, .firstFrame, .prefix, .suffix, .inpaint, .keep, .crop, .reference, .audio,
        .video:
        continue
      }
      audio.append(
        GenerationStage.AudioEncoding(
          condition: condition, grid: grid, seconds: size.seconds))
    }
  }

  private func reader(_ path: String, _ option: GenerationError.Option) throws -> AudioReader {
    do {
      return try AudioReader(path: path)
    } catch let error as MediaError {
      throw GenerationError(option, describe(error))
    }
  }

  /// A sound's beginning or end must leave something to make.
  private func checkEnd(_ condition: GenerationCondition, _ path: String, _ seconds: Double?) throws
  {
    let duration = try reader(path, condition.option).duration
    if let seconds, !(seconds > 0 && seconds < size.seconds) {
      throw GenerationError(
        condition.option,
        "\(path): \(seconds) seconds are not possible; use less than the result's \(size.seconds)",
        .length)
    }
    if seconds == nil, let duration, duration >= size.seconds {
      throw GenerationError(
        condition.option,
        "\(path): lasts \(duration) seconds, which leaves nothing to make of \(size.seconds); say how many to use"
      )
    }
  }

  private func checkAudio(
    _ path: String, _ start: Double, _ notes: inout [String],
    _ option: GenerationError.Option = .audio
  ) throws {
    guard start >= 0, start.isFinite else {
      throw GenerationError(option, "\(start) is no time to start at; use 0 or more seconds")
    }
    let reader = try reader(path, option)
    guard
      option != .audio
        || VideoWriter.Audio(sampleRate: reader.sampleRate, channelCount: 2).isPossible
    else {
      throw GenerationError(
        option,
        "\(path): its \(reader.sampleRate) samples a second don't go into an MP4; convert it to 48000"
      )
    }
    guard let duration = reader.duration else { return }
    guard start < duration else {
      throw GenerationError(
        option, "\(path) is \(duration) seconds long; it can't start at \(start)")
    }
    if duration - start + 0.1 < size.seconds {
      notes.append("\(path): ends before the video does; silence follows")
    }
  }

  private func check(_ condition: GenerationCondition, _ grid: VideoGrid, _ notes: inout [String])
    throws
  {
    func fail(_ problem: String, _ part: GenerationError.Part = .file) -> GenerationError {
      GenerationError(condition.option, "\(condition.path): \(problem)", part)
    }
    let time = grid.factors.time
    switch condition {
    case .image(let path, let frame, let strength, let crf):
      guard (0..<size.frames).contains(frame) else {
        throw fail(
          "there is no frame \(frame) in a video of \(size.frames); use 0 to \(size.frames - 1)")
      }
      guard (0...1).contains(strength) else {
        throw fail("a strength of \(strength) is not from 0 to 1")
      }
      if let crf, !(0...51).contains(crf) {
        throw GenerationError(.imageCRF, "\(crf) is out of range; use 0 (none) to 51")
      }
      try requireImage(path)
    case .firstFrame: _ = try GivenVideo(condition)
    case .prefix(let path, let frames):
      let given = try clip(condition, path, &notes)
      guard given.frames < size.frames || frames != nil else {
        throw fail(
          "has \(given.frames) frames, which leaves nothing to make of \(size.frames); say how many to use"
        )
      }
      guard let frames else { return }
      guard frames >= 1, (frames - 1).isMultiple(of: time), frames < size.frames,
        frames <= given.frames
      else {
        throw fail(
          "\(frames) frames are not possible; use \(time)k + 1, below \(size.frames) and up to \(given.frames)",
          .length)
      }
    case .suffix(let path, let frames):
      let given = try clip(condition, path, &notes)
      guard given.frames > time else {
        throw fail("has \(given.frames) frames; a video can end with no less than \(time + 1)")
      }
      guard given.frames < size.frames || frames != nil else {
        throw fail(
          "has \(given.frames) frames, which leaves nothing to make of \(size.frames); say how many to use"
        )
      }
      guard let frames else { return }
      guard frames >= time, frames.isMultiple(of: time), frames < size.frames, frames < given.frames
      else {
        throw fail(
          "\(frames) frames are not possible; use a multiple of \(time), below \(size.frames) and below \(given.frames)",
          .length)
      }
    case .retake(_, let from, let to):
      guard from >= 0, from < to, from < size.seconds else {
        throw GenerationError(
          .startTime,
          "\(from) to \(to) seconds are no stretch of a video of \(size.seconds); give a start before the end"
        )
      }
    case .inpaint(_, let mask): _ = try GivenVideo(mask, .mask)
    case .keep(let path, let mask):
      try requireWhole(condition, path, &notes)
      _ = try GivenVideo(mask, .mask)
    case .crop(let path, let region):
      try requireWhole(condition, path, &notes)
      guard !grid.cells(of: region).isEmpty else {
        throw fail(
          "rows \(region.top) to \(region.bottom) and columns \(region.left) to \(region.right) hold no cell of "
            + "\(grid.factors.width)x\(grid.factors.height) pixels of a picture of \(size.width)x\(size.height)",
          .region)
      }
    case .reference(let path, let strength, let scale, _):
      let referenceScale =
        scale.map { (spatial: $0.space, temporal: $0.time) } ?? self.referenceScale
      guard (0...1).contains(strength) else {
        throw fail("a strength of \(strength) is not from 0 to 1")
      }
      _ = try clip(condition, path, &notes)
      let unit = (
        grid.factors.width * referenceScale.spatial, grid.factors.height * referenceScale.spatial
      )
      let side = (grid.columns * grid.factors.width, grid.rows * grid.factors.height)
      guard side.0.isMultiple(of: unit.0), side.1.isMultiple(of: unit.1) else {
        throw fail(
          "references are \(referenceScale.spatial) times coarser, and \(side.0)x\(side.1) can't be divided so; "
            + "use a width in multiples of \(unit.0) and a height in multiples of \(unit.1)", .scale
        )
      }
    case .audio, .audioPrefix, .audioSuffix, .audioKeep, .audioReference, .video: break
    }
  }

  /// A file and its mask must have roughly the result's shape.
  private func requireShapes(_ condition: GenerationCondition) throws {
    for (path, option) in [(condition.path, condition.option), (condition.maskPath, .mask)] {
      guard let path else { continue }
      do {
        let reader = try VideoReader(path: path)
        guard !FrameTensors.canFill((reader.width, reader.height), (size.width, size.height)) else {
          continue
        }
        throw GenerationError(
          option,
          "\(path): is \(reader.width)x\(reader.height), so filling \(size.width)x\(size.height) would cut nearly all "
            + "of it away. Crop it first")
      } catch let error as MediaError {
        throw GenerationError(option, "\(error)")
      }
    }
  }

  /// A video that is kept in part must be as long as the result.
  private func requireWhole(
    _ condition: GenerationCondition, _ path: String, _ notes: inout [String]
  ) throws {
    let given = try clip(condition, path, &notes)
    guard given.frames >= size.frames else {
      throw GenerationError(
        condition.option, "\(path): has \(given.frames) frames; the result needs \(size.frames)")
    }
  }

  private func clip(
    _ condition: GenerationCondition, _ path: String, _ notes: inout [String]
  ) throws -> GivenVideo {
    let given = try GivenVideo(condition)
    if !given.isImage, abs(given.frameRate.value - size.frameRate.value) > 0.01 {
      notes.append(
        "\(path): is at \(given.frameRate.value) frames a second, the result at \(size.frameRate.value); frames are taken "
          + "one by one")
    }
    return given
  }

  /// Decodes it: a name that ends in .png may hold anything.
  private func requireImage(_ path: String) throws {
    do {
      let reader = try VideoReader(path: path)
      guard reader.isImage else {
        throw GenerationError(.image, "\(path): is a video; give a picture")
      }
      guard try reader.next() != nil else {
        throw GenerationError(.image, "\(path): holds no picture")
      }
    } catch let error as MediaError {
      throw GenerationError(.image, describe(error))
    }
  }
}
