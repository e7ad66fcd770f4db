import Foundation
import Support
import TensorFiles
import Torch

/// A small random checkpoint of LTX-2 (19B), LTX-2.3 or LTX-2.5 in the published layout, with a
/// small text encoder, latent upsamplers and a LoRA, for trying every command and for tests without
/// the published weights.
///
/// The files have the published keys, metadata and dtype (bfloat16); the numbers of blocks and
/// channels are small. The model's outputs are finite and of order 1, and mean nothing.
public enum TinyModel {
  /// The published model that it imitates.
  public enum Generation: String, Sendable, CaseIterable {
    case ltx2 = "2"
    case ltx23 = "2.3"
    case ltx25 = "2.5"

    /// The beginning of its files' names.
    var name: String { "ltx-\(rawValue)-tiny" }

    public var checkpointName: String { "\(name).safetensors" }
    /// The text encoder's folder.
    public var textEncoderName: String { self == .ltx25 ? "gemma-4-tiny" : "gemma-3-tiny" }
    public var spatialUpsamplerName: String { "\(name)-spatial-upscaler-x2.safetensors" }
    public var temporalUpsamplerName: String { "\(name)-temporal-upscaler-x2.safetensors" }
    public var distilledLoRAName: String { "\(name)-distilled-lora.safetensors" }

    /// The dtype of statistics and of the tables that are added to timesteps; everything else is
    /// bfloat16.
    var tableType: DType { self == .ltx2 ? .bfloat16 : .float32 }

    /// The checkpoint's `model_version`; nil for LTX-2.
    var version: String? {
      switch self {
      case .ltx2: nil
      case .ltx23: "2.3.0"
      case .ltx25: "2.5.0"
      }
    }

    /// The name of a component's file in a split pack.
    public func splitName(_ component: ModelFiles.Component) -> String {
      "\(name)-\(component.title.lowercased().replacing(" ", with: "-")).safetensors"
    }
  }

  /// The checkpoint's name in the default version.
  public static let checkpointName = Generation.ltx2.checkpointName
  public static let textEncoderName = Generation.ltx2.textEncoderName

  /// The paths of the written model.
  public struct Files: Sendable {
    /// The unified checkpoint, or the transformer of a split pack.
    public let checkpoint: String
    public let textEncoder: String
    /// The files of a split pack; nil beside a unified checkpoint.
    public let videoVAE: String?
    public let audioVAE: String?
    public let durationHead: String?
    public let spatialUpsampler: String
    public let temporalUpsampler: String
    public let distilledLoRA: String

    public var model: ModelFiles {
      ModelFiles(
        unified: checkpoint, textEncoder: textEncoder, videoVAE: videoVAE, audioVAE: audioVAE,
        durationHead: durationHead)
    }

    /// All files and folders, in the order in which they are listed.
    public var paths: [String] {
      [checkpoint, textEncoder, videoVAE, audioVAE, durationHead].compactMap(\.self)
        + [spatialUpsampler, temporalUpsampler, distilledLoRA]
    }
  }

  /// Writes a checkpoint, a text encoder, upsamplers and a LoRA into a folder, which is created if
  /// it doesn't exist.
  ///
  /// The files are written to a folder beside it and then moved: `folder` gets all of them or none.
  /// A folder that is overwritten keeps its other files, and gets the new ones one by one, each of
  /// them complete.
  ///
  /// - Parameters:
  ///   - isSplit: Writes a file for each component, the text encoder's included, as LTX-2.5 is
  ///     published too.
  ///   - seed: The same seed gives the same bytes.
  ///   - isOverwriting: Whether the folder may have content; files of the same names are replaced.
  /// - Throws: `Issue` if `folder` is a file or not empty, or can't be written; `TensorFileError`
  ///   if a tensor file can't.
  public static func write(
    to folder: String, generation: Generation = .ltx2, isSplit: Bool = false, seed: UInt64 = 42,
    isOverwriting: Bool = false
  ) throws -> Files {
    let destination = URL(fileURLWithPath: folder).standardizedFileURL
    let isUsed = try check(folder: folder, isOverwriting: isOverwriting)
    let suffix = String(UInt64.random(in: .min ... .max), radix: 36)
    let staging = destination.deletingLastPathComponent()
      .appendingPathComponent(".\(destination.lastPathComponent).\(suffix).partial")
    TemporaryFiles.add(staging.path)
    defer {
      removeIfPresent(staging)
      TemporaryFiles.remove(staging.path)
    }
    do {
      try FileManager.default.createDirectory(at: staging, withIntermediateDirectories: true)
      let generator = try Generator(seed: seed)
      let components = TinyComponents(generation: generation, isSplit: isSplit)
      let transformer = try components.write(to: staging, generator)
      for (upsampler, name) in [
        (TinyUpsampler.spatial, generation.spatialUpsamplerName),
        (.temporal, generation.temporalUpsamplerName),
      ] {
        let drawn = RandomWeights.Drawn(generator)
        try upsampler.draw(RandomWeights(into: drawn))
        try writeSafetensors(
          drawn.tensors, metadata: ["config": upsampler.config],
          to: staging.appendingPathComponent(name).path
        )
      }
      try writeSafetensors(
        TinyAdapters.draw(for: transformer, generator), metadata: [:],
        to: staging.appendingPathComponent(generation.distilledLoRAName).path)
      if isUsed {
        try move(contentsOf: staging, into: destination)
      } else if rename(staging.path, destination.path) != 0 {
        throw Issue([.file(folder)], "can't be written (\(String(cString: strerror(errno))))")
      }
    } catch let error as CocoaError {
      throw Issue([.file(folder)], "can't be written (\(reason(of: error)))")
    }
    // Keep the folder as it was given: a relative one gives relative paths.
    func path(_ name: String) -> String {
      URL(fileURLWithPath: folder).appendingPathComponent(name).relativePath
    }
    func part(_ component: ModelFiles.Component) -> String? {
      isSplit ? path(generation.splitName(component)) : nil
    }
    return Files(
      checkpoint: part(.transformer) ?? path(generation.checkpointName),
      textEncoder: part(.textEncoder) ?? path(generation.textEncoderName),
      videoVAE: part(.videoVAE), audioVAE: part(.audioVAE), durationHead: part(.durationHead),
      spatialUpsampler: path(generation.spatialUpsamplerName),
      temporalUpsampler: path(generation.temporalUpsamplerName),
      distilledLoRA: path(generation.distilledLoRAName))
  }

  private static func hasContent(_ folder: URL, named name: String) throws -> Bool {
    guard FileManager.default.fileExists(atPath: folder.path) else { return false }
    guard isFolder(folder.path) else {
      throw Issue([.file(name)], "is a file", suggestion: "Choose a folder for the model.")
    }
    do {
      return try !FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty
    } catch {
      throw Issue([.file(name)], "can't be read (\(reason(of: error)))")
    }
  }

  /// Checks that the model can be written to a folder, where by default it must not replace
  /// anything.
  ///
  /// - Returns: Whether the folder exists and has content.
  /// - Throws: `Issue` if it is a file, or not empty without `isOverwriting`.
  public static func check(folder: String, isOverwriting: Bool = false) throws -> Bool {
    let isUsed = try hasContent(URL(fileURLWithPath: folder).standardizedFileURL, named: folder)
    guard !isUsed || isOverwriting else {
      throw Issue(
        [.file(folder)], "is not empty",
        suggestion: "Choose another folder, or overwrite the files in this one.")
    }
    return isUsed
  }

  /// Moves files, the innermost first, replacing those of the same names.
  private static func move(contentsOf source: URL, into destination: URL) throws {
    try FileManager.default.createDirectory(at: destination, withIntermediateDirectories: true)
    for name in try FileManager.default.contentsOfDirectory(atPath: source.path).sorted() {
      let from = source.appendingPathComponent(name)
      let to = destination.appendingPathComponent(name)
      if try from.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true {
        try move(contentsOf: from, into: to)
      } else if rename(from.path, to.path) != 0 {
        throw Issue([.file(to.path)], "can't be replaced (\(String(cString: strerror(errno))))")
      }
    }
  }

  private static func removeIfPresent(_ folder: URL) {
    guard FileManager.default.fileExists(atPath: folder.path) else { return }
    do {
      try FileManager.default.removeItem(at: folder)
    } catch {
      // The name of the leftover folder shows what it is, and the reason for the failure is already
      // being thrown.
      StandardStream.error.write("warning: \(describe(error)). Remove \(folder.path).\n")
    }
  }
}
