import LTX
import Media
import Support

/// Checks the conditions of a request and lists the files to encode.
struct ConditionPlan {
  private let request: GenerationRequest
  private let defaults: GenerationDefaults
  private let size: GenerationPlan.OutputSize
  private let referenceScale: ReferenceScale
  /// The audio that the result contains unchanged: given audio, or the audio of a video of which
  /// only the frames are edited.
  var givenAudio: Condition<MediaFile>? { audioSource?.condition }
  /// `givenAudio` with the position of the condition that it comes from.
  private let audioSource: (index: Int, condition: Condition<MediaFile>)?
  private(set) var videos: [GenerationPlan.VideoEncoding] = []
  private(set) var audio: [GenerationPlan.AudioEncoding] = []

  init(
    _ request: GenerationRequest, _ defaults: GenerationDefaults, _ size: GenerationPlan.OutputSize,
    _ referenceScale: ReferenceScale
  ) throws {
    audioSource = try request.conditions.enumerated().lazy.compactMap {
      index, condition -> (Int, Condition<MediaFile>)? in
      switch (condition.modality, condition.kind) {
      case (.audio, .whole): return (index, condition)
      case (_, .mask(_, .replacesWhite)):
        let hasAudio = try Issue.within("conditions", .index(index)) {
          try GivenVideo(condition).hasAudio
        }
        return hasAudio ? (index, .audio(path: condition.path)) : nil
      default: return nil
      }
    }.first
    self.request = request
    self.defaults = defaults
    self.size = size
    self.referenceScale = referenceScale
  }

  /// The video whose frames the result contains.
  var givenVideo: String? {
    request.conditions.first { $0.modality == .video && $0.isWhole }?.path
  }

  /// Adds the video conditions of a sampling. Only the first sampling has references.
  mutating func addVideos(
    sampling: Int, grid: VideoGrid, refines: Bool, _ notes: inout [String]
  ) throws {
    for (index, condition) in request.conditions.enumerated() {
      if sampling == 0 {
        try Issue.within("conditions", .index(index)) {
          try check(condition, grid, &notes)
          if condition.modality == .video { try requireShapes(condition) }
        }
      }
      var encoding = GenerationPlan.VideoEncoding(
        condition: condition, sampling: sampling, grid: grid, crf: 0)
      switch (condition.modality, condition.kind) {
      case (.video, .image): encoding.crf = condition.source.crf ?? defaults.imageCRF
      case (.video, .reference(let scale, _)):
        guard !refines else { continue }
        encoding.scale = scale ?? referenceScale
        encoding.attention = request.referenceAttention
      case (.video, _): break
      case (.audio, _): continue
      }
      videos.append(encoding)
    }
  }

  /// Adds the audio conditions.
  mutating func addAudio(_ grid: AudioGrid, _ notes: inout [String]) throws {
    let given = request.conditions.indices.filter {
      request.conditions[$0].modality == .audio && request.conditions[$0].isWhole
    }
    if given.count > 1 {
      throw Issue(
        ["conditions", .index(given[1]), .file(request.conditions[given[1]].path)],
        "only one audio file can be given", suggestion: "Leave one of them out.")
    }
    if let (index, givenAudio) = audioSource {
      try Issue.within("conditions", .index(index)) {
        try checkAudio(givenAudio.path, givenAudio.source.start, &notes)
      }
      audio = [
        GenerationPlan.AudioEncoding(
          condition: givenAudio, grid: grid, seconds: size.seconds)
      ]
      return
    }
    for (index, condition) in request.conditions.enumerated()
    where try Issue.within("conditions", .index(index), body: { try isOfAudio(condition, &notes) })
    {
      audio.append(
        GenerationPlan.AudioEncoding(
          condition: condition, grid: grid, seconds: size.seconds))
    }
  }

  /// Whether a condition applies to the generated audio, after checking it.
  private func isOfAudio(_ condition: Condition<MediaFile>, _ notes: inout [String]) throws -> Bool
  {
    switch (condition.modality, condition.kind) {
    case (_, .retake):
      guard try GivenVideo(condition).hasAudio else {
        notes.append("\(condition.path): has no audio; all audio of the result is generated")
        return false
      }
    case (.audio, .prefix), (.audio, .suffix): try checkEnd(condition.path, condition.seconds)
    case (.audio, .mask(let mask, _)):
      try checkAudio(condition.path, 0, &notes, isCopied: false)
      do {
        _ = try AudioMask(path: mask.path)
      } catch {
        throw Issue(describing: error).within("mask")
      }
    case (.audio, .reference): _ = try reader(condition.path)
    case (.video, _), (.audio, _): return false
    }
    return true
  }

  private func reader(_ path: String) throws -> AudioReader {
    do { return try AudioReader(path: path) } catch let error as MediaError { throw error.issue }
  }

  /// Checks that a prefix or suffix of the audio leaves something to generate.
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
        [.file(path)], "an MP4 file can't hold \(reader.sampleRate) samples per second",
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

  private func check(_ condition: Condition<MediaFile>, _ grid: VideoGrid, _ notes: inout [String])
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
    guard condition.modality == .video else { return }
    let (path, strength) = (condition.path, condition.strength)
    let time = grid.factors.time
    switch condition.kind {
    case .image(let frame):
      guard (0..<size.frames).contains(frame) else {
        throw fail(
          "the frame must be between 0 and \(size.frames - 1) (got \(frame))", at: "frame")
      }
      guard (0...1).contains(strength) else {
        throw fail("the strength must be between 0 and 1 (got \(strength))", at: "strength")
      }
      if let crf = condition.source.crf, !(0...51).contains(crf) {
        throw Issue(["crf"], "must be between 0 (uncompressed) and 51 (got \(crf))")
      }
      try requireImage(path)
    case .firstFrame: _ = try GivenVideo(condition)
    case .prefix:
      let frames = condition.frames
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
    case .suffix:
      let frames = condition.frames
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
    case .retake(let from, let to):
      guard from >= 0, from < to, from < size.seconds else {
        throw Issue(
          ["start"],
          "\(from) to \(to) seconds are not a part of a video of \(size.seconds) seconds",
          suggestion: "Give a start before the end.")
      }
    case .mask(let mask, let rule):
      if rule == .keepsWhite { try requireWhole(condition, path, &notes) }
      try Issue.within("mask") { _ = try GivenVideo(mask.path) }
    case .crop(let region):
      try requireWhole(condition, path, &notes)
      guard !grid.cells(of: region).isEmpty else {
        throw fail(
          "rows \(region.top) to \(region.bottom) and columns \(region.left) to \(region.right) hold "
            + "no latent cell, \(grid.factors.width)x\(grid.factors.height) pixels, of "
            + "\(size.width)x\(size.height)", at: "region")
      }
    case .reference(let scale, _):
      let referenceScale = scale ?? self.referenceScale
      guard (0...1).contains(strength) else {
        throw fail("the strength must be between 0 and 1 (got \(strength))", at: "strength")
      }
      _ = try clip(condition, path, &notes)
      let unit = (
        grid.factors.width * referenceScale.space, grid.factors.height * referenceScale.space
      )
      let side = (grid.columns * grid.factors.width, grid.rows * grid.factors.height)
      guard side.0.isMultiple(of: unit.0), side.1.isMultiple(of: unit.1) else {
        throw fail(
          "references are \(referenceScale.space) times coarser than the result, which does not "
            + "divide \(side.0)x\(side.1)", at: "scale",
          "Use a width in multiples of \(unit.0) and a height in multiples of \(unit.1).")
      }
    case .whole: break
    }
  }

  /// Checks that a file and its mask have roughly the result's shape.
  private func requireShapes(_ condition: Condition<MediaFile>) throws {
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

  /// Checks that a video of which a part is kept is as long as the result.
  private func requireWhole(
    _ condition: Condition<MediaFile>, _ path: String, _ notes: inout [String]
  ) throws {
    let given = try clip(condition, path, &notes)
    guard given.frames >= size.frames else {
      throw Issue(
        [.file(path)], "has \(given.frames) frames, but the result needs \(size.frames)")
    }
  }

  private func clip(
    _ condition: Condition<MediaFile>, _ path: String, _ notes: inout [String]
  ) throws -> GivenVideo {
    let given = try GivenVideo(condition)
    if !given.isImage, abs(given.frameRate.value - size.frameRate.value) > 0.01 {
      notes.append(
        "\(path): has \(given.frameRate.value) frames a second, but the result "
          + "\(size.frameRate.value); every frame is used, so its speed changes")
    }
    return given
  }

  /// Decodes the image, because a file named .png may hold anything.
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
