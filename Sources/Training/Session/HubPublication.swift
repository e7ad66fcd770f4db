import Foundation
import Tracking

/// The upload of a run to the Hub at its end: weights, configuration, samples, and a model card.
struct HubPublication {
  private let uploader: HubUploader
  private let configuration: TrainingConfiguration

  /// Checks, before training, whether the upload will be allowed.
  ///
  /// - Throws: `Issue` if the token is missing or can't write; `ConfigurationProblems` if the
  ///   repository's name is invalid.
  init?(_ configuration: TrainingConfiguration, progress: @escaping @Sendable (String) -> Void)
    throws
  {
    guard configuration.hub.pushToHub, let name = configuration.hub.hubModelID else { return nil }
    self.configuration = configuration
    uploader = try HubUploader(repository: name, progress: progress)
    try uploader.checkAccess()
  }

  /// - Parameters:
  ///   - weights: the most recently saved file.
  ///   - samples: the samples of the last validation.
  ///   - facts: facts about the run for the model card.
  /// - Returns: the URL of the commit.
  func upload(
    weights: String, samples: [ValidationMedia], facts: [(name: String, value: String)]
  ) throws -> String {
    let c = configuration
    let file = (weights as NSString).lastPathComponent
    var card = ModelCard(
      title: c.hub.hubModelID?.split(separator: "/").last.map(String.init) ?? file,
      baseModel: (c.model.modelPath as NSString).lastPathComponent,
      method: c.model.trainingMode == .full
        ? .full : .lora(rank: c.lora?.rank ?? 0, alpha: Double(c.lora?.alpha ?? 0)),
      weights: file)
    card.facts = facts
    var items = [
      HubUploader.Item(path: file, content: .file(weights)),
      HubUploader.Item(
        path: "training_config.yaml", content: .bytes(Data(try c.resolvedYAML.utf8))),
    ]
    for sample in samples {
      let path = "samples/\(sample.name).\((sample.path as NSString).pathExtension)"
      card.samples.append(ModelCard.Sample(path: path, prompt: sample.caption))
      items.append(HubUploader.Item(path: path, content: .file(sample.path)))
    }
    items.append(HubUploader.Item(path: "README.md", content: .bytes(Data(card.text.utf8))))
    return try uploader.upload(items, message: "Train for \(c.optimization.steps) steps").page
  }
}
