import Foundation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// A dataset in a temporary folder, with clips written by FFmpeg's libraries, and the tiny model.
final class PreprocessingFixture {
  let scratch: ScratchFolder
  let model: TinyModelFiles
  private(set) var rows: [[String: String]] = []

  /// - Parameter ownsModel: for tests that change the model's files.
  init(ownsModel: Bool = false) throws {
    scratch = try ScratchFolder()
    let shared = try TinyModelFiles.ltx2()
    model = ownsModel ? try shared.copy(to: scratch.file("model")) : shared
  }

  func file(_ name: String) -> String { scratch.file(name) }

  /// Writes a clip.
  ///
  /// - Parameter audio: The length of a tone in seconds; nil for a clip without audio.
  func clip(
    _ name: String, width: Int = 80, height: Int = 64, frames: Int, rate: Rational = Rational(25),
    audio: Double? = nil
  ) throws {
    let path = file(name)
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    let writer = try VideoWriter(
      path: path, width: width, height: height, frameRate: rate,
      audio: audio.map { _ in VideoWriter.Audio(sampleRate: 16000, channelCount: 1) },
      quality: .init(preset: "superfast"))
    let seed = name.utf8.reduce(0) { $0 + Int($1) }
    for time in 0..<frames {
      let bytes = (0..<(width * height)).flatMap { i -> [UInt8] in
        let (x, y) = (i % width, i / width)
        return [
          UInt8((4 * x + 9 * time) % 256), UInt8((4 * y + seed) % 256),
          UInt8((2 * (x + y) + 5 * time) % 256),
        ]
      }
      try writer.append(RGBFrame(bytes: bytes, width: width, height: height))
    }
    if let audio { try writer.append(audio: [Self.tone(Int(audio * 16000), seed: seed)]) }
    try writer.finish()
  }

  /// Writes a WAV of 16 kHz.
  func audio(_ name: String, seconds: Double, channels: Int = 1) throws {
    let tone = Self.tone(Int(seconds * 16000), seed: name.utf8.reduce(0) { $0 + Int($1) })
    try WAVWriter.write(Array(repeating: tone, count: channels), sampleRate: 16000, to: file(name))
  }

  private static func tone(_ samples: Int, seed: Int) -> [Float] {
    (0..<samples).map { 0.4 * sin(Float($0) * (0.05 + 0.001 * Float(seed % 97))) }
  }

  /// Sets the dataset's rows, each a dictionary of its columns, and writes them.
  func dataset(_ rows: [[String: String]], to name: String = "dataset.json") throws {
    self.rows = rows
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let objects = try rows.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
    try scratch.write("[\n" + objects.joined(separator: ",\n") + "\n]\n", to: name)
  }

  /// A dataset of clips and captions.
  func dataset(_ rows: [(String, String)]) throws {
    try dataset(rows.map { ["video": $0.0, "caption": $0.1] })
  }

  func options(_ buckets: String = "64x64x9") throws -> PreprocessingOptions {
    var options = PreprocessingOptions(
      dataset: file("dataset.json"),
      buckets: buckets.isEmpty ? [] : try ResolutionBucket.list(buckets),
      models: ModelFiles(unified: model.checkpoint, textEncoder: model.textEncoder))
    options.dtype = .float32
    return options
  }

  @discardableResult
  func run(_ options: PreprocessingOptions) throws -> PreprocessingReport {
    try Preprocessor(PreprocessingPlan(options)).run()
  }

  func cached(_ path: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: file(".precomputed/\(path).safetensors"))
  }

  func isCached(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: file(".precomputed/\(path).safetensors"))
  }

  func difference(_ a: Tensor, _ b: Tensor) throws -> Double {
    #expect(a.shape == b.shape)
    return try (a - b).abs().amax().item()
  }
}

extension PreprocessingReport {
  /// The number of files of a kind that were encoded.
  func encoded(_ folder: CacheFolder) -> Int { counts[folder]?.encoded ?? 0 }
  func upToDate(_ folder: CacheFolder) -> Int { counts[folder]?.upToDate ?? 0 }
}
