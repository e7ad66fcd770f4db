import Datasets
import Foundation
import LTX
import Support
import TensorFiles

/// Checks before the first step, by the headers of the files.
extension PrecomputedDataset {
  /// Checks that a model can read every sample's latents and text features, and that masks fit.
  ///
  /// - Parameters:
  ///   - checkpoint: the model; only its configuration is read.
  ///   - path: the path of the model, for messages.
  ///   - emptyPrompt: the file of text features that replaces dropped captions, if there is one.
  /// - Throws: `Issue` that names the first file that does not fit.
  func requireFit(_ checkpoint: Checkpoint, path model: String, emptyPrompt: String? = nil) throws {
    let configuration = try TransformerConfiguration(checkpoint.config)
    let text = try TextConfiguration(checkpoint.config)
    let factors = try checkpoint.videoCompression()
    let (videoChannels, audioChannels) = (
      configuration.sizes.video.inputs, configuration.sizes.audio.inputs
    )
    let (videoWidth, audioWidth) = (text.connectors.video.width, text.connectors.audio.width)
    for entry in entries {
      for (folder, kind) in Self.latentFolders(strategies) {
        guard let shape = entry.shapes[folder], let path = entry.files[folder] else { continue }
        let (found, wanted) =
          kind == .video ? (shape[0], videoChannels) : (shape[0] * shape[2], audioChannels)
        guard found == wanted else {
          throw Issue(
            [.file(path)],
            "holds \(kind) latents of \(found) channels, but the model \(model) takes \(wanted)",
            suggestion: "Preprocess the dataset with this model.")
        }
        if kind == .video { try requireGeometry(entry, folder, factors, path: path) }
      }
      try requireMasksFit(entry)
    }
    try requireTextFeatures(
      video: videoWidth, audio: strategies.audio == nil ? nil : audioWidth, model: model,
      emptyPrompt: emptyPrompt)
  }

  /// Checks that latents were made by a video VAE with these compression factors, as far as the
  /// file records its clip's size.
  private func requireGeometry(
    _ entry: Entry, _ folder: String, _ factors: CompressionFactors, path: String
  ) throws {
    guard let shape = entry.shapes[folder], let bucket = entry.buckets[folder],
      let size = try? ResolutionBucket.list(bucket).first
    else { return }
    let wanted = [
      factors.latentFrames(size.frames), size.height / factors.height, size.width / factors.width,
    ]
    guard Array(shape[1...]) == wanted else {
      func words(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: " x ") }
      throw Issue(
        [.file(path)],
        "holds latents of \(words(Array(shape[1...]))) for a clip of \(size), but the video VAE "
          + "compresses it by \(words([factors.time, factors.height, factors.width])) to "
          + words(wanted), suggestion: "Preprocess the dataset with this video VAE.")
    }
  }

  private func requireMasksFit(_ entry: Entry) throws {
    for (kind, strategy) in strategies.pairs {
      guard let strategy, let latents = entry.shapes[strategy.latentsFolder] else { continue }
      for folder in strategy.conditions.compactMap(\.maskFolder) {
        guard let path = entry.files[folder], let shape = entry.masks[folder] else { continue }
        guard shape.reduce(1, *) == kind.tokenCount(latents) else {
          throw Issue(
            [.file(path)],
            "holds a mask of shape \(shape) for \(kind) latents of shape \(latents)",
            suggestion: "Preprocess the sample again.")
        }
      }
    }
  }

  func requireTextFeatures(
    video: Int, audio: Int?, model: String, emptyPrompt: String?
  ) throws {
    var tokens: Int?
    let own = entries.compactMap { entry in
      entry.text.map { (path: entry.files[Self.textFolder] ?? "", shapes: $0) }
    }
    let empty = try emptyPrompt.map { (path: $0, shapes: try TextShapes(SampleFile(path: $0))) }
    for (path, shapes) in own + [empty].compactMap(\.self) {
      func fail(_ problem: String, _ suggestion: String) -> Issue {
        Issue([.file(path)], problem, suggestion: suggestion)
      }
      let withModel = "Preprocess the dataset with this model."
      let features = shapes.video
      guard features.count == 2, features[1] == video else {
        throw fail(
          "holds text features of shape \(features), but the model \(model) takes a width of "
            + "\(video)", withModel)
      }
      if let audio {
        let own = shapes.audio ?? features
        guard own == [features[0], audio] else {
          throw fail(
            "holds audio text features of shape \(own), but the model \(model) takes "
              + "\([features[0], audio])", withModel)
        }
      }
      guard shapes.mask == [features[0]] else {
        throw fail(
          "holds a mask of shape \(shapes.mask) for \(features[0]) text tokens",
          "Preprocess the sample again.")
      }
      guard features[0] == tokens ?? features[0] else {
        throw fail(
          "holds \(features[0]) text tokens, and \(entries[0].files[Self.textFolder] ?? "") "
            + "\(tokens ?? 0)", "Preprocess the whole dataset with one text encoder.")
      }
      tokens = features[0]
    }
  }

  /// Checks that the samples were cached with the model and the text encoder of the configuration,
  /// as far as the metadata shows; the official trainer's caches have none.
  ///
  /// - Parameter files: the model files.
  /// - Throws: `Issue` with the number of samples from other models or another text encoder,
  ///   unless the configuration accepts them.
  func requireSameModel(
    _ files: ModelFiles, _ c: TrainingConfiguration, emptyPrompt: String? = nil
  ) throws {
    guard !c.data.acceptOtherModel else { return }
    try requireSameTextEncoder(c)
    if let emptyPrompt { try requireSameOrigin(emptyPrompt) }
    let components = [ModelFiles.Component.transformer, .videoVAE, .audioVAE]
    let models = Set(
      try Set(components.compactMap { files.path(of: $0) }).map {
        try FileIdentity.identity(of: $0)
      })
    let others = entries.filter { !models.isSuperset(of: $0.models) }
    guard let first = others.first else { return }
    throw Issue(
      [.file(root)],
      "holds \(others.count) samples that were preprocessed with another model than "
        + "\(c.model.modelPath), \(first.name) among them",
      suggestion: "Run `ltx preprocess` with this model, or set `acceptsOtherModel` to true if the "
        + "models share their VAEs and text projection.")
  }

  /// Checks that the empty prompt's features come from the same model and text encoder as the
  /// captions'.
  private func requireSameOrigin(_ emptyPrompt: String) throws {
    guard let caption = entries.first?.files[Self.textFolder] else { return }
    let (own, other) = (
      try SampleFile(path: emptyPrompt).metadata, try SampleFile(path: caption).metadata
    )
    for key in [Fingerprint.Key.model, .textEncoder].map(\.rawValue) {
      guard let said = own[key], let wanted = other[key], said != wanted else { continue }
      throw Issue(
        [.file(emptyPrompt)], "was made by another model than \(caption)",
        suggestion: "Run `ltx preprocess` on the dataset again.")
    }
  }

  /// Checks that all text features come from the configured text encoder.
  private func requireSameTextEncoder(_ c: TrainingConfiguration) throws {
    guard let path = c.model.textEncoderPath else { return }
    let wanted = try FileIdentity.identity(of: path)
    let others = entries.filter { entry in
      entry.textEncoder.map { TextEncoderIdentity.file(of: $0) != wanted } ?? false
    }
    guard let first = others.first else { return }
    throw Issue(
      [.file(root)],
      "the text features of \(others.count) of \(entries.count) samples were made with another text "
        + "encoder than \(path), \(first.name) among them",
      suggestion:
        "Run `ltx preprocess` with this text encoder, set `textEncoder` to the one that the "
        + "dataset was preprocessed with, or set `acceptsOtherModel` to true if both are copies of "
        + "one model.")
  }

  /// The scale of video references, inferred from the first sample as in the official trainer, and
  /// checked on all samples.
  ///
  /// - Throws: `Issue` if sizes don't divide, or if a sample's scale differs from the first
  ///   one's.
  func referenceScale() throws -> ReferenceScale {
    guard let video = strategies.video,
      let folder = video.conditions.compactMap(\.referenceFolder).first
    else { return ReferenceScale() }
    var scale: ReferenceScale?
    for entry in entries {
      guard let target = entry.shapes[video.latentsFolder], let reference = entry.shapes[folder],
        let path = entry.files[folder]
      else { continue }
      do {
        let own = try ReferenceScale(
          reference: Array(reference[1...]), target: Array(target[1...]),
          keepsTime: video.referencesKeepTime)
        guard own == scale ?? own else {
          throw Issue(
            ["reference"],
            "is at 1/\(own.space) of the size and 1/\(own.time) of the frame rate, but others are at "
              + "1/\(scale?.space ?? 1) and 1/\(scale?.time ?? 1)")
        }
        scale = own
      } catch let issue as Issue {
        throw issue.within(.file(path))
      }
    }
    return scale ?? ReferenceScale()
  }
}
