// S text tokens, W context width.

import Datasets
import Foundation
import Generation
import LTX
import NN
import Support
import TensorFiles
import Torch

/// Encoded prompts in a run's folder, so that a resumed run does not load the text encoder again.
///
/// A file is used only if its metadata names the same prompt and models; otherwise it is replaced.
struct PromptCache {
  let folder: String
  private let origin: [String: String]

  /// - Throws: `Issue` if a model file can't be read.
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

  /// Returns a cached prompt, on the CPU; nil if it is not cached or comes from other models.
  ///
  /// - Throws: `TensorFileError` if the file is damaged.
  func contexts(of prompt: String) throws -> TextContexts? {
    let path = path(of: prompt)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try SafetensorsFile(path: path)
    guard file.metadata == metadata(prompt) else { return nil }
    // Copies, because the file may be replaced during the run.
    return TextContexts(
      try PerModality { modality in
        let key = modality.rawValue
        return try file.contains(key) ? file.tensor(key).clone() : nil
      })
  }

  /// - Throws: `TensorFileError` or `WritingError` if the file can't be written.
  func store(_ contexts: TextContexts, of prompt: String) throws {
    try makeFolder(folder)
    let tensors = Modality.allCases.compactMap { modality in
      contexts.byModality[modality].map { (key: modality.rawValue, tensor: $0) }
    }
    try writeSafetensors(tensors, metadata: metadata(prompt), to: path(of: prompt))
  }

  private func metadata(_ prompt: String) -> [String: String] {
    origin.merging(["prompt": prompt]) { $1 }
  }

  func path(of prompt: String) -> String {
    let all = metadata(prompt).sorted { $0.key < $1.key }.map(\.value)
    return "\(folder)/\(FileIdentity.identity(ofNames: all)).safetensors"
  }
}
