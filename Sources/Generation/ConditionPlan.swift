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
  var givenAudio: GenerationCondition? { audioSource?.condition }
  /// `givenAudio` with the position of the condition that it comes from.
  private let audioSource: (index: Int, condition: GenerationCondition)?
  private(set) var videos: [GenerationStage.VideoEncoding] = []
  private(set) var audio: [GenerationStage.AudioEncoding] = []

  init(
    _ request: GenerationRequest, _ defaults: GenerationDefaults, _ size: GenerationPlan.OutputSize,
    _ referenceScale: (spatial: Int, temporal: Int)
  ) throws {
    audioSource = try request.conditions.enumerated().lazy.compactMap {
      index, condition -> (Int, GenerationCondition)? in
      switch condition {
      case .audio: return (index, condition)
      case .inpaint(let path, _):
        let hasAudio = try Issue.within("conditions", .index(index)) {
          try GivenVideo(condition).hasAudio
        }
        return hasAudio ? (index, .audio(path: path)) : nil
      default: return nil
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
    for (index, condition) in request.conditions.enumerated() {
      if sampling == 0 {
        try Issue.within("conditions", .index(index)) {
          try check(condition, grid, &notes)
          if !condition.isAudio { try requireShapes(condition) }
        }
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
    let given = request.conditions.indices.filter {
      if case .audio = request.conditions[$0] { true } else { false }
    }
    if given.count > 1 {
      throw Issue(
        ["conditions", .index(given[1]), .file(request.conditions[given[1]].path)],
        "only one audio file can be given", suggestion: "Leave one of them out.")
    }
    if let (index, givenAudio) = audioSource {
      if case .audio(let path, let start) = givenAudio {
        try Issue.within("conditions", .index(index)) { try checkAudio(path, start, &notes) }
      }
      audio = [
        GenerationStage.AudioEncoding(
          condition: givenAudio, grid: grid, seconds: size.seconds)
      ]
      return
    }
    for (index, condition) in request.conditions.enumerated()
    where try Issue.within("conditions", .index(index), body: { try isOfAudio(condition, &notes) })
    {
      audio.append(
        GenerationStage.AudioEncoding(
          condition: condition, grid: grid, seconds: size.seconds))
    }
  }

  /// Whether a condition holds for the audio that is generated, after checking it.
  private func isOfAudio(_ condition: GenerationCondition, _ notes: inout [String]) throws -> Bool {
    switch condition {
    case .retake(let path, _, _):
      guard try GivenVideo(condition).hasAudio else {
        notes.append("\(path): has no audio; all audio of the result is generated")
        return false
      }
    case .audioPrefix(let path, let seconds), .audioSuffix(let path, let seconds):
      try checkEnd(path, seconds)
    case .audioKeep(let path, let mask):
      try checkAudio(path, 0, &notes, isCopied: false)
      do { _ = try AudioMask(path: mask) } catch { throw Issue(describing: error).within("mask") }
    case .audioReference(let path): _ = try reader(path)
    case .image, .firstFrame, .prefix, .suffix, .inpaint, .keep, .crop, .reference, .audio, .video:
      return false
    }
    return true
  }

  private func reader(_ path: String) throws -> AudioReader {
    do { return try AudioReader(path: path) } catch let error as MediaError { throw error.issue }
  }

  /// The start or the end of the audio must leave something to generate.
  private func checkEnd(_ path: String, _ seconds: Double?) throws {
    let duration = try reader(path).duration
    if let seconds, !(seconds > 0 && seconds < size.seconds) {
      throw Issue(
        ["length", .file(path)],
        "must be positive and shorter than the result, \(size.seconds) seconds (got \(seconds) "
          + "seconds)")
    }
    if seconds == nil, let duration, duration >= size.seconds {
      throw Issue(
        [.file(path)],
        "lasts \(duration) seconds, which leaves nothing to generate of \(size.seconds)",
        suggestion: "Give the number of seconds to use.")
    }
  }

  private func checkAudio(
    _ path: String, _ start: Double, _ notes: inout [String], isCopied: Bool = true
  ) throws {
    guard start >= 0, start.isFinite else {
      throw Issue(["start"], "must be 0 or more seconds (got \(start))")
    }
    let reader = try reader(path)
    guard
      !isCopied || VideoWriter.Audio(sampleRate: reader.sampleRate, channelCount: 2).isPossible
    else {
      throw Issue(
        [.file(path)], "an MP4 file can't hold \(reader.sampleRate) samples a second",
        suggestion: "Convert it to 48000.")
    }
    guard let duration = reader.duration else { return }
    guard start < duration else {
      throw Issue(
        ["start", .file(path)],
        "must be within the file's \(duration) seconds (got \(start))")
    }
    if duration - start + 0.1 < size.seconds {
      notes.append("\(path): ends before the video; silence follows")
    }
  }

  private func check(_ condition: GenerationCondition, _ grid: VideoGrid, _ notes: inout [String])
    throws
  {
    func fail(_ problem: String, at part: Issue.PathComponent? = nil, _ suggestion: String? = nil)
      -> Issue
    {
      Issue(
        [part, .file(condition.path)].compactMap { $0 }, problem, suggestion: suggestion)
    }
    let leavesNothing = { (frames: Int) in
      fail(
        "has \(frames) frames, which leaves nothing to generate of \(size.frames)",
        "Give the number of frames to use.")
    }
    let time = grid.factors.time
    switch condition {
    case .image(let path, let frame, let strength, let crf):
      guard (0..<size.frames).contains(frame) else {
        throw fail(
          "the frame must be between 0 and \(size.frames - 1) (got \(frame))", at: "frame")
      }
      guard (0...1).contains(strength) else {
        throw fail("the strength must be between 0 and 1 (got \(strength))", at: "strength")
      }
      if let crf, !(0...51).contains(crf) {
        throw Issue(["crf"], "must be between 0 (uncompressed) and 51 (got \(crf))")
      }
      try requireImage(path)
    case .firstFrame: _ = try GivenVideo(condition)
    case .prefix(let path, let frames):
      let given = try clip(condition, path, &notes)
      guard given.frames < size.frames || frames != nil else {
        throw leavesNothing(given.frames)
      }
      guard let frames else { return }
      guard frames >= 1, (frames - 1).isMultiple(of: time), frames < size.frames,
        frames <= given.frames
      else {
        throw fail(
          "the number of frames must be of the form \(time)k + 1, below \(size.frames) and at most "
            + "\(given.frames) (got \(frames))", at: "length")
      }
    case .suffix(let path, let frames):
      let given = try clip(condition, path, &notes)
      guard given.frames > time else {
        throw fail("has \(given.frames) frames, but a suffix needs at least \(time + 1)")
      }
      guard given.frames < size.frames || frames != nil else {
        throw leavesNothing(given.frames)
      }
      guard let frames else { return }
      guard frames >= time, frames.isMultiple(of: time), frames < size.frames, frames < given.frames
      else {
        throw fail(
          "the number of frames must be a multiple of \(time), below \(size.frames) and below "
            + "\(given.frames) (got \(frames))", at: "length")
      }
    case .retake(_, let from, let to):
      guard from >= 0, from < to, from < size.seconds else {
        throw Issue(
          ["start"],
          "\(from) to \(to) seconds are not a part of a video of \(size.seconds) seconds",
          suggestion: "Give a start before the end.")
      }
    case .inpaint(_, let mask): try Issue.within("mask") { _ = try GivenVideo(mask) }
    case .keep(let path, let mask):
      try requireWhole(condition, path, &notes)
      try Issue.within("mask") { _ = try GivenVideo(mask) }
    case .crop(let path, let region):
      try requireWhole(condition, path, &notes)
      guard !grid.cells(of: region).isEmpty else {
        throw fail(
          "rows \(region.top) to \(region.bottom) and columns \(region.left) to \(region.right) hold "
            + "no latent cell, \(grid.factors.width)x\(grid.factors.height) pixels, of "
            + "\(size.width)x\(size.height)", at: "region")
      }
    case .reference(let path, let strength, let scale, _):
      let referenceScale =
        scale.map { (spatial: $0.space, temporal: $0.time) } ?? self.referenceScale
      guard (0...1).contains(strength) else {
        throw fail("the strength must be between 0 and 1 (got \(strength))", at: "strength")
      }
      _ = try clip(condition, path, &notes)
      let unit = (
        grid.factors.width * referenceScale.spatial, grid.factors.height * referenceScale.spatial
      )
      let side = (grid.columns * grid.factors.width, grid.rows * grid.factors.height)
      guard side.0.isMultiple(of: unit.0), side.1.isMultiple(of: unit.1) else {
        throw fail(
          "references are \(referenceScale.spatial) times coarser than the result, which does not "
            + "divide \(side.0)x\(side.1)", at: "scale",
          "Use a width in multiples of \(unit.0) and a height in multiples of \(unit.1).")
      }
    case .audio, .audioPrefix, .audioSuffix, .audioKeep, .audioReference, .video: break
    }
  }

  /// A file and its mask must have roughly the result's shape.
  private func requireShapes(_ condition: GenerationCondition) throws {
    let files: [([Issue.PathComponent], String?)] = [
      ([], condition.path), (["mask"], condition.maskPath),
    ]
    for (subject, path) in files {
      guard let path else { continue }
      do {
        let reader = try VideoReader(path: path)
        guard !FrameTensors.canFill((reader.width, reader.height), (size.width, size.height)) else {
          continue
        }
        throw Issue(
          [.file(path)],
          "has \(reader.width)x\(reader.height) pixels, so filling \(size.width)x\(size.height) "
            + "would crop nearly all of it", suggestion: "Crop it first.")
      } catch {
        throw Issue(describing: error).prefixed(by: subject)
      }
    }
  }

  /// A video that is kept in part must be as long as the result.
  private func requireWhole(
    _ condition: GenerationCondition, _ path: String, _ notes: inout [String]
  ) throws {
    let given = try clip(condition, path, &notes)
    guard given.frames >= size.frames else {
      throw Issue(
        [.file(path)], "has \(given.frames) frames, but the result needs \(size.frames)")
    }
  }

  private func clip(
    _ condition: GenerationCondition, _ path: String, _ notes: inout [String]
  ) throws -> GivenVideo {
    let given = try GivenVideo(condition)
    if !given.isImage, abs(given.frameRate.value - size.frameRate.value) > 0.01 {
      notes.append(
        "\(path): has \(given.frameRate.value) frames a second, but the result "
          + "\(size.frameRate.value); every frame is used, so its speed changes")
    }
    return given
  }

  /// Decodes it: a name that ends in .png may hold anything.
  private func requireImage(_ path: String) throws {
    do {
      let reader = try VideoReader(path: path)
      guard reader.isImage else {
        throw Issue([.file(path)], "is a video", suggestion: "Give an image.")
      }
      guard try reader.next() != nil else {
        throw Issue([.file(path)], "has no image")
      }
    } catch let error as MediaError {
      throw error.issue
    }
  }
}
