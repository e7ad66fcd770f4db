import Foundation
import LTX
import NN
import Support
import TensorFiles
import Torch

/// The unified checkpoint of the demo's model.
public enum TinyCheckpoint {
  public static let name = "tiny-ltx2.safetensors"
  public static let textEncoderName = "gemma"
  public static let checksumsName = "checksums.txt"
  /// The limit on the size of all files.
  public static let maxBytes = 25_000_000

  /// The files that a checkpoint is assembled from, each with a `config` in its metadata.
  public struct Parts: Sendable {
    public var videoVAE: String
    public var audioVAE: String
    public var vocoder: String

    public init(videoVAE: String, audioVAE: String, vocoder: String) {
      (self.videoVAE, self.audioVAE, self.vocoder) = (videoVAE, audioVAE, vocoder)
    }

    var all: [String] { [videoVAE, audioVAE, vocoder] }
  }

  /// Writes the checkpoint that captions are encoded with and the transformer is trained from.
  ///
  /// - Parameter seed: The seed of the transformer's initial weights.
  /// - Throws: `Issue` for a part without a configuration, `TensorFileError`.
  public static func writeInitial(_ parts: Parts, seed: UInt64, to path: String) throws {
    let files = try parts.all.map { try SafetensorsFile(path: $0) }
    var config = JSONObject()
    var tensors: [(key: String, tensor: Tensor)] = []
    for file in files {
      let part = try configuration(of: file)
      for key in part.keys { config[key] = part.value(key) }
      tensors += try file.keys.map { ($0, try file.tensor($0)) }
    }
    let sizes = try transformer(JSON.object(config).text(), file: path)
    let initial = try InitialTransformer(sizes, seed: seed)
    config["transformer"] = try JSON(parsing: sizes.config)
    config["scheduler"] = ["_class_name": "RectifiedFlowScheduler", "num_train_timesteps": 1000]
    try write(initial.tensors + tensors, config: .object(config), to: path)
  }

  /// Writes the checkpoint with a trained transformer in place of the initial one.
  ///
  /// - Parameters:
  ///   - initial: The checkpoint that the transformer was trained from, whose dtypes are kept.
  ///   - transformer: The file that full fine-tuning saved.
  /// - Throws: `Issue` or `TensorFileError` for a transformer that doesn't belong to it.
  public static func write(initial: String, transformer: String, to path: String) throws {
    let before = try SafetensorsFile(path: initial)
    let trained = try Checkpoint(ModelFiles(unified: initial, transformer: transformer))
    let tensors = try before.keys.map { key in
      (key: key, tensor: try trained.source.tensor(key).to(before.tensor(key).dtype))
    }
    try write(tensors, config: JSON(parsing: configuration(of: before).json), to: path)
  }

  private static func write(
    _ tensors: [(key: String, tensor: Tensor)], config: JSON, to path: String
  ) throws {
    try writeSafetensors(
      tensors, metadata: ["config": config.text(), "model_version": "2.3.0"], to: path)
  }

  /// The transformer for the latents of the VAEs.
  private static func transformer(_ config: String, file: String) throws -> TinyTransformer {
    let config = try Configuration(json: config, file: file)
    let video = try VideoVAEConfiguration.Decoder(config)
    let audio = try AudioVAEConfiguration(config)
    return .demo(
      videoChannels: video.latentChannels,
      audioChannels: audio.latentChannels * audio.frequencyBins)
  }

  private static func configuration(of file: SafetensorsFile) throws -> Configuration {
    guard let json = file.metadata["config"] else {
      throw Issue([.file(file.name)], "has no config in its metadata")
    }
    return try Configuration(json: json, file: file.name)
  }

  /// Copies the text encoder's folder into that of the checkpoint, where it replaces another one.
  public static func copyTextEncoder(_ source: String, to folder: String) throws {
    let place = "\(folder)/\(textEncoderName)"
    let files = FileManager.default
    if files.fileExists(atPath: place) { try files.removeItem(atPath: place) }
    try files.copyItem(atPath: source, toPath: place)
  }

  /// Builds every model of a finished checkpoint, which checks that each tensor is used.
  ///
  /// - Parameter folder: The folder with the checkpoint and the text encoder.
  public static func verify(_ folder: String) throws {
    let checkpoint = try Checkpoint(
      ModelFiles(unified: "\(folder)/\(name)", textEncoder: "\(folder)/\(textEncoderName)"))
    _ = try checkpoint.transformer()
    _ = try checkpoint.textConnectors()
    _ = try checkpoint.promptEncoder()
    _ = try checkpoint.videoEncoder()
    _ = try checkpoint.videoDecoder()
    _ = try checkpoint.audioEncoder()
    _ = try checkpoint.audioDecoder()
    _ = try checkpoint.vocoder()
  }

  /// Writes the SHA-256 of every file of a folder, in the format of `sha256sum`.
  ///
  /// - Parameter limit: The limit on the bytes of all files.
  /// - Returns: The bytes of all files.
  /// - Throws: `Issue` for files that are too large together, or can't be read.
  @discardableResult
  public static func writeChecksums(_ folder: String, limit: Int = maxBytes) throws -> Int {
    let names = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
      .filter { $0 != checksumsName && isFile("\(folder)/\($0)") }
    var bytes = 0
    var lines = ""
    for name in names {
      let path = "\(folder)/\(name)"
      lines += "\(try SHA256.hex(ofFile: path))  \(name)\n"
      bytes += try Data(contentsOf: URL(fileURLWithPath: path)).count
    }
    guard bytes <= limit else {
      throw Issue(
        [.file(folder)], "has \(bytes) bytes (limit \(limit))",
        suggestion: "Reduce the sizes of a model.")
    }
    try AtomicFile.write(Data(lines.utf8), to: "\(folder)/\(checksumsName)")
    return bytes
  }
}
