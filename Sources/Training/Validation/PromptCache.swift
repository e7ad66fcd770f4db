// S text tokens, W context width.

import Datasets
import Foundation
import Generation
import LTX
import NN
import Support
import TensorFiles
import Torch

/// Encoded prompts in a run's folder, so that a run that goes on does not load the text encoder
/// again.
///
/// A file counts only if it says that it was made of the very prompt by the very models; it is
/// replaced otherwise.
struct PromptCache {
  let folder: String
  private let origin: [String: String]

  /// - Throws: `PreprocessingError` for a model file that can't be read.
  init(folder: String, models: GenerationModels) throws {
    self.folder = folder
    origin = [
      "format": "1",
      "model": try FileIdentity.identity(of: models.files),
      "text_encoder": try models.files.textEncoder.map { try FileIdentity.identity(of: $0) } ?? "",
      "dtype": "\(models.dtype)",
      "storage": models.textEncoder8bit ? "int8" : "as stored",
    ]
  }

  /// The prompt as it was encoded before, on the CPU; nil if it was not, or by other models.
  ///
  /// - Throws: `TensorFileError` for a file that is damaged.
  func contexts(of prompt: String) throws -> TextContexts? {
    let path = path(of: prompt)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try SafetensorsFile(path: path)
    guard file.metadata == metadata(prompt), file.contains("mask") else { return nil }
    // Copies, because the file may be replaced during the run.
    return TextContexts(
      try PerModality { modality in
        let key = modality.rawValue
        return try file.contains(key) ? file.tensor(key).clone() : nil
      }, mask: try file.tensor("mask").clone())
  }

  /// - Throws: `TensorFileError` or `WritingError` where the disk refuses.
  func store(_ contexts: TextContexts, of prompt: String) throws {
    try makeFolder(folder)
    let tensors = Modality.allCases.compactMap { modality in
      contexts.byModality[modality].map { (key: modality.rawValue, tensor: $0) }
    }
    try writeSafetensors(
      tensors + [(key: "mask", tensor: contexts.mask)], metadata: metadata(prompt),
      to: path(of: prompt))
  }

  private func metadata(_ prompt: String) -> [String: String] {
    origin.merging(["prompt": prompt]) { $1 }
  }

  func path(of prompt: String) -> String {
    let all = metadata(prompt).sorted { $0.key < $1.key }.map(\.value)
    return "\(folder)/\(FileIdentity.identity(ofNames: all)).safetensors"
  }
}
