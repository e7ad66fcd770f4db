// B conversations, S tokens.

import Support
import Torch

/// The positions of tokens in time, row and column, from which the language model makes its
/// rotary embedding ("TMRoPE" of the "Qwen2.5-Omni Technical Report", 2025).
///
/// Text and audio count upward in all three. Images and frames of a clip have the row and column of
/// their grid; clips have their time, cut to an integer in Qwen2.5-Omni, with fractions in
/// Qwen3-Omni. Each piece begins one above the largest position of the one before it.
public struct QwenOmniPositions {
  private let configuration: QwenOmniConfiguration
  private let isInterleaved: Bool
  private var images: ArraySlice<[Int]>
  private var videos: ArraySlice<(grid: [Int], seconds: Float)>
  /// The numbers of tokens of recordings.
  private var recordings: ArraySlice<Int>

  /// - Parameters:
  ///   - ids: The tokens of each conversation, padded on the left: B lists of S.
  ///   - mask: 0 on padding, whose positions are 0.
  ///   - imageGrids, videoGrids: Steps, rows and columns of patches, in the order of the prompt.
  ///   - secondsPerGrid: The time between two steps of each clip's grid.
  ///   - audioFrames: The frames of each recording's spectrogram.
  ///   - isInterleaved: Whether the audio of a clip is interleaved with its frames.
  /// - Returns: The positions, [3, B, S], and delta, [B, 1], both float32: the token at index i,
  ///   padding counted, that follows a prompt has the position i + delta in all rows.
  /// - Throws: `Issue` if placeholders don't match the media.
  public static func positions(
    ids: [[Int]], mask: [[Int]], imageGrids: [[Int]], videoGrids: [[Int]], secondsPerGrid: [Float],
    audioFrames: [Int], isInterleaved: Bool, configuration: QwenOmniConfiguration
  ) throws -> (positions: Tensor, delta: Tensor) {
    guard videoGrids.count == secondsPerGrid.count else {
      throw Issue(
        ["secondsPerGrid"],
        "has \(secondsPerGrid.count) entries (expected one for each of \(videoGrids.count) clips)")
    }
    for (index, grid) in (imageGrids + videoGrids).enumerated() {
      try VisionGrid.require(grid, at: index, configuration.vision)
    }
    var reader = QwenOmniPositions(
      configuration: configuration, isInterleaved: isInterleaved, images: imageGrids[...],
      videos: Array(zip(videoGrids, secondsPerGrid).map { (grid: $0, seconds: $1) })[...],
      recordings: audioFrames.map { configuration.audio.tokens(ofFrames: $0) }[...])
    let length = ids.first?.count ?? 0
    guard length > 0, ids.count == mask.count, (ids + mask).allSatisfy({ $0.count == length })
    else {
      throw Issue(["ids"], "and their mask must be lists of one length, with at least one token")
    }
    var rows = [[Float]](repeating: [], count: 3)
    var deltas: [Float] = []
    for (ids, mask) in zip(ids, mask) {
      let places = mask.indices.filter { mask[$0] != 0 }
      let found = try reader.conversation(places.map { ids[$0] })
      for row in 0..<3 {
        var positions = [Float](repeating: 0, count: length)
        for (place, position) in zip(places, found) { positions[place] = position[row] }
        rows[row] += positions
      }
      let largest = found.reduce(-1) { Swift.max($0, $1.max()) }
      deltas.append(largest + 1 - Float(length))
    }
    try reader.requireAllUsed()
    return (
      try Tensor(rows.flatMap { $0 }, shape: [3, ids.count, length]),
      try Tensor(deltas, shape: [ids.count, 1])
    )
  }

  /// Time, row and column of a token.
  private typealias Position = SIMD3<Float>

  /// The positions of the tokens of a conversation without padding.
  private mutating func conversation(_ ids: [Int]) throws -> [Position] {
    let tokens = configuration.tokens
    var positions: [Position] = []
    positions.reserveCapacity(ids.count)
    var next: Float = 0
    while positions.count < ids.count {
      let rest = ids[positions.count...]
      switch ids[positions.count] {
      case tokens.image:
        guard let grid = images.popFirst() else { throw surplus("image", "images") }
        positions += try steps(grid, seconds: 0, from: next, in: rest, tokens.image, "image")
      case tokens.video:
        guard let clip = videos.popFirst() else { throw surplus("video", "clips") }
        positions += try steps(
          clip.grid, seconds: clip.seconds, from: next, in: rest, tokens.video, "video")
      case tokens.audio:
        let count = try nextRecording()
        try require(rest.prefix(count).allSatisfy { $0 == tokens.audio }, rest, count, "audio")
        positions += (0..<count).map { Position(repeating: next + Float($0)) }
      case tokens.audioStart
      where recordings.first == 0 && rest.dropFirst().first == tokens.audioEnd:
        // A recording that is too short for a token has no placeholder.
        recordings.removeFirst()
        positions.append(Position(repeating: next))
      case tokens.visionStart where isInterleaved && rest.dropFirst().first == tokens.audioStart:
        positions += try interleaved(rest, from: next)
      default: positions.append(Position(repeating: next))
      }
      // Positions of a piece end with its largest ones. After an interleaved clip it is the last
      // token that counts, not the largest position of the clip.
      next = (positions.last?.max() ?? -1) + 1
    }
    return positions
  }

  /// The positions of the tokens of an image or a clip.
  private func steps(
    _ grid: [Int], seconds: Float, from start: Float, in rest: ArraySlice<Int>, _ token: Int,
    _ kind: String
  ) throws -> [Position] {
    let places = gridPlaces(grid, seconds: seconds)
    try require(rest.prefix(places.count).allSatisfy { $0 == token }, rest, places.count, kind)
    return places.map { $0 + start }
  }

  /// The places of the tokens of an image or a clip in its grid.
  private func gridPlaces(_ grid: [Int], seconds: Float) -> [Position] {
    let merge = configuration.vision.mergeSize
    let (height, width) = (grid[1] / merge, grid[2] / merge)
    return (0..<grid[0]).flatMap { step in
      var time = Float(step) * seconds * Float(configuration.positionsPerSecond)
      if configuration.family == .qwen25 { time.round(.towardZero) }
      return (0..<height * width).map { Position(time, Float($0 / width), Float($0 % width)) }
    }
  }

  /// The positions of a clip with its audio, from the first of the two start tokens to the last of
  /// the two end tokens. Both streams begin at the same position.
  private mutating func interleaved(_ rest: ArraySlice<Int>, from start: Float) throws -> [Position]
  {
    guard let clip = videos.popFirst() else { throw surplus("video", "clips") }
    var frames = gridPlaces(clip.grid, seconds: clip.seconds)[...]
    let audioCount = try nextRecording()
    var audio = (0..<audioCount).map { Position(repeating: Float($0)) }[...]
    let count = frames.count + audio.count
    // The two start tokens share a position in Qwen2.5-Omni, as do the end tokens.
    let step: Float = configuration.family == .qwen25 ? 0 : 1
    var positions = [Position(repeating: start), Position(repeating: start + step)]
    let begin = start + step + 1
    for token in rest.dropFirst(2).prefix(count) {
      let place =
        token == configuration.tokens.video
        ? frames.popFirst() : token == configuration.tokens.audio ? audio.popFirst() : nil
      guard let place else { break }
      positions.append(place + begin)
    }
    try require(positions.count == count + 2, rest, count, "video and audio")
    let end = (positions.last?.max() ?? start) + 1
    positions += [Position(repeating: end), Position(repeating: end + step)]
    try require(rest.count >= positions.count, rest, count, "video and audio")
    return positions
  }

  private mutating func nextRecording() throws -> Int {
    guard let count = recordings.popFirst() else { throw surplus("audio", "recordings") }
    return count
  }

  private func surplus(_ token: String, _ media: String) -> Issue {
    Issue(["ids"], "have more \(token) placeholders than there are \(media)")
  }

  private func require(
    _ fits: Bool, _ rest: ArraySlice<Int>, _ count: Int, _ kind: String
  ) throws {
    guard fits, rest.count >= count else {
      throw Issue(
        ["ids"],
        "have fewer \(kind) placeholders at index \(rest.startIndex) than their media have tokens "
          + "(expected \(count))")
    }
  }

  private func requireAllUsed() throws {
    guard images.isEmpty, videos.isEmpty, recordings.isEmpty else {
      throw Issue(
        ["ids"],
        "lack placeholders for \(images.count) images, \(videos.count) clips and "
          + "\(recordings.count) recordings")
    }
  }
}
