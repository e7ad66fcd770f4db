import Foundation
import TensorFiles
import Torch

/// A small random LTX-2 checkpoint (of the 19B generation) in the published layout, with a small Gemma 3 folder: to try
/// every command, and to test on, without the published weights.
///
/// The files have the published keys, metadata and element type (bfloat16); the numbers of blocks and channels are small.
/// What the model computes is finite and of order 1, and means nothing.
public enum TinyModel {
  public static let checkpointName = "ltx-2-tiny.safetensors"
  public static let textEncoderName = "gemma-3-tiny"

  /// Where the model has been written.
  public struct Files: Sendable {
    public let checkpoint: String
    public let textEncoder: String
  }

  /// Writes `checkpointName` and `textEncoderName/` into a folder, which is made if there is none.
  ///
  /// The files are made in a folder beside it and then moved: `folder` has all or nothing of them. A folder that is
  /// overwritten keeps its other files, and gets the new ones one after another, each of them whole.
  ///
  /// - Parameters:
  ///   - seed: the same one makes the same bytes.
  ///   - isOverwriting: whether the folder may have content; files of the same names are replaced.
  /// - Throws: `TinyModelError` when `folder` is a file or not empty, or can't be written; `TensorFileError` when a
  ///   tensor file can't.
  public static func write(to folder: String, seed: UInt64 = 42, isOverwriting: Bool = false) throws -> Files
  {
    let destination = URL(fileURLWithPath: folder).standardizedFileURL
    let isUsed = try hasContent(destination, named: folder)
    guard !isUsed || isOverwriting else {
      throw TinyModelError(
        kind: .notEmpty, path: folder,
        problem: "the folder is not empty; name another one, or pass --overwrite")
    }
    let suffix = String(UInt64.random(in: .min ... .max), radix: 36)
    let staging = destination.deletingLastPathComponent()
      .appendingPathComponent(".\(destination.lastPathComponent).\(suffix).partial")
    let textEncoder = staging.appendingPathComponent(textEncoderName)
    do {
      try FileManager.default.createDirectory(at: textEncoder, withIntermediateDirectories: true)
      defer { removeIfPresent(staging) }
      let generator = try Generator(seed: seed)
      try writeCheckpoint(to: staging.appendingPathComponent(checkpointName).path, generator)
      try writeTextEncoder(to: textEncoder, generator)
      if isUsed {
        try move(contentsOf: staging, into: destination)
      } else if rename(staging.path, destination.path) != 0 {
        throw TinyModelError(
          kind: .notWritten, path: folder, problem: "can't be written: \(String(cString: strerror(errno)))")
      }
    } catch let error as CocoaError {
      throw TinyModelError(
        kind: .notWritten, path: folder, problem: "can't be written: \(error.localizedDescription)")
    }
    return Files(
      checkpoint: destination.appendingPathComponent(checkpointName).path,
      textEncoder: destination.appendingPathComponent(textEncoderName).path)
  }

  /// The metadata's `config`.
  static var config: String {
    """
    {
      "transformer": \(TinyTransformer().config),
      "vae": \(TinyVideoVAE.config),
      "audio_vae": \(TinyAudioVAE.config),
      "vocoder": \(TinyVocoder.config),
      "scheduler": {
        "_class_name": "RectifiedFlowScheduler",
        "_diffusers_version": "0.25.1",
        "num_train_timesteps": 1000,
        "shifting": null,
        "base_resolution": null
      }
    }
    """
  }

  private static func writeCheckpoint(to path: String, _ generator: Generator) throws {
    let drawn = RandomWeights.Drawn(generator)
    let root = RandomWeights(into: drawn)
    try TinyTransformer().draw(root / "model" / "diffusion_model")
    // All states of the text encoder, side by side, to one of its width.
    try (root / "text_embedding_projection" / "aggregate_embed").linear(
      (TinyGemma.layers + 1) * TinyGemma.width, TinyGemma.width, bias: false)
    try TinyVideoVAE.draw(root / "vae")
    try TinyAudioVAE.draw(root / "audio_vae")
    try TinyVocoder.draw(root / "vocoder")
    try writeSafetensors(drawn.tensors, metadata: ["config": config], to: path)
  }

  private static func writeTextEncoder(to folder: URL, _ generator: Generator) throws {
    let tokenizer = TinyTokenizer()
    for (name, content) in try TinyGemma.files(tokenizer) {
      try Data((content + "\n").utf8).write(to: folder.appendingPathComponent(name))
    }
    let drawn = RandomWeights.Drawn(generator)
    try TinyGemma.draw(RandomWeights(into: drawn), tokenizer: tokenizer)

    // Two files of about half the bytes each, as the large model comes in several.
    let total = drawn.tensors.reduce(0) { $0 + $1.tensor.byteCount }
    let names = (1...2).map { "model-0000\($0)-of-00002.safetensors" }
    var shards: [[(key: String, tensor: Tensor)]] = [[], []]
    var places: [String: String] = [:]
    var filled = 0
    for entry in drawn.tensors {
      let shard = 2 * filled < total ? 0 : 1
      shards[shard].append(entry)
      places[entry.key] = names[shard]
      filled += entry.tensor.byteCount
    }
    for (name, shard) in zip(names, shards) {
      try writeSafetensors(shard, metadata: ["format": "pt"], to: folder.appendingPathComponent(name).path)
    }
    let map = places.sorted { $0.key < $1.key }.map { "    \"\($0.key)\": \"\($0.value)\"" }
    let index = """
      {
        "metadata": {
          "total_size": \(total)
        },
        "weight_map": {
      \(map.joined(separator: ",\n"))
        }
      }

      """
    try Data(index.utf8).write(to: folder.appendingPathComponent("model.safetensors.index.json"))
  }

  private static func hasContent(_ folder: URL, named name: String) throws -> Bool {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else { return false }
    guard isFolder.boolValue else {
      throw TinyModelError(kind: .notEmpty, path: name, problem: "is a file; name a folder for the model")
    }
    do {
      return try !FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty
    } catch {
      throw TinyModelError(
        kind: .notWritten, path: name, problem: "can't be read: \(error.localizedDescription)")
    }
  }

  /// Moves files, the inner ones first, over those of the same names.
  private static func move(contentsOf source: URL, into destination: URL) throws {
    try FileManager.default.createDirectory(at: destination, withIntermediateDirectories: true)
    for name in try FileManager.default.contentsOfDirectory(atPath: source.path).sorted() {
      let from = source.appendingPathComponent(name)
      let to = destination.appendingPathComponent(name)
      if try from.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true {
        try move(contentsOf: from, into: to)
      } else if rename(from.path, to.path) != 0 {
        throw TinyModelError(
          kind: .notWritten, path: to.path, problem: "can't be replaced: \(String(cString: strerror(errno)))")
      }
    }
  }

  private static func removeIfPresent(_ folder: URL) {
    guard FileManager.default.fileExists(atPath: folder.path) else { return }
    do {
      try FileManager.default.removeItem(at: folder)
    } catch {
      // What is left has a name that says so, and the reason for the failure is already being thrown.
      FileHandle.standardError.write(
        Data("warning: \(folder.path) remains: \(error.localizedDescription)\n".utf8))
    }
  }
}

/// A place where the tiny model can't be written.
public struct TinyModelError: Error, CustomStringConvertible, Sendable {
  public enum Kind: Sendable {
    /// Something is there that must not be lost.
    case notEmpty
    /// The system refuses.
    case notWritten
  }

  public let kind: Kind
  public let path: String
  public let problem: String

  public var description: String { "\(path): \(problem)" }
}
