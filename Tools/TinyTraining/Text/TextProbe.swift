// N captions, S tokens, D features, K classes.

import DemoData
import LTX
import LanguageModels
import NN
import Support
import Torch

/// Measures whether the contexts that the transformer attends to tell captions apart: linear
/// classifiers read each attribute of a held-out caption from the mean of its contexts, and each
/// token's id from the token's own context.
public struct TextProbe {
  private let encoder: PromptEncoder
  private let connectors: TextConnectors
  private let captions: CaptionSource

  /// The penalty of the classifiers' weights, for each example.
  private static let penalty = 1e-6

  /// - Parameters:
  ///   - checkpoint: The checkpoint with the connectors and the projections of text features.
  ///   - textEncoder: The folder of the text encoder.
  ///   - seed: The seed of the captions.
  public init(checkpoint: String, textEncoder: String, seed: UInt64) throws {
    let opened = try Checkpoint(ModelFiles(unified: checkpoint, textEncoder: textEncoder))
    encoder = try opened.promptEncoder(dtype: .float32)
    connectors = try opened.textConnectors(dtype: .float32)
    captions = CaptionSource(seed: seed)
  }

  /// The attributes of scenes that classifiers predict.
  private static let attributes: [(name: String, label: @Sendable (DemoScene) -> Int)] = [
    ("color", { DemoScene.Color.allCases.firstIndex(of: $0.color) ?? 0 }),
    ("shape", { DemoScene.Shape.allCases.firstIndex(of: $0.shape) ?? 0 }),
    ("direction", { DemoScene.Direction.allCases.firstIndex(of: $0.direction) ?? 0 }),
    ("size", { DemoScene.Size.allCases.firstIndex(of: $0.size) ?? 0 }),
    ("background", { DemoScene.Background.allCases.firstIndex(of: $0.background) ?? 0 }),
  ]

  /// The contexts of captions, in float32.
  private struct Contexts {
    /// [N, D]: the means over the tokens of each caption.
    var means: Tensor
    /// The contexts of all captions' tokens, one after the other, [T, D].
    var tokens: Tensor
    /// [T]
    var ids: [Int]
  }

  /// Trains classifiers on captions of training scenes, and measures them on held-out ones.
  ///
  /// - Returns: The share of right answers for each modality and attribute, and for tokens.
  public func measure(training: Int = 1500, heldOut: Int = 300) throws -> [StageMetric] {
    try Modality.allCases.flatMap { try measure($0, training: training, heldOut: heldOut) }
  }

  private func measure(_ modality: Modality, training: Int, heldOut: Int) throws -> [StageMetric] {
    try withoutGrad {
      let known = captions.training(training)
      let new = captions.heldOut(heldOut)
      let (before, after) = (try contexts(known, modality), try contexts(new, modality))
      var metrics = try Self.attributes.map { attribute in
        StageMetric(
          "\(modality)_\(attribute.name)",
          try Self.accuracy(
            before.means, known.map(attribute.label), after.means, new.map(attribute.label)))
      }
      metrics.append(
        StageMetric(
          "\(modality)_token",
          try Self.accuracy(before.tokens, before.ids, after.tokens, after.ids)))
      return metrics
    }
  }

  private func contexts(_ scenes: [DemoScene], _ modality: Modality) throws -> Contexts {
    var (means, tokens, ids): ([Tensor], [Tensor], [Int]) = ([], [], [])
    for scene in scenes {
      let features = try encoder([scene.caption])
      guard let context = try connectors(features).byModality[modality] else { continue }
      // The text comes first in a context; registers follow.
      let own = try tokenIDs(scene.caption)
      let text = try context.select(0, 0).narrow(0, 0, own.count)
      means.append(try text.mean([0]))
      tokens.append(text)
      ids += own
    }
    return Contexts(means: try Tensor.stack(means), tokens: try Tensor.cat(tokens), ids: ids)
  }

  private func tokenIDs(_ caption: String) throws -> [Int] {
    let (ids, mask) = try encoder.tokens(caption)
    return zip(ids, mask).filter { $0.1 == 1 }.map(\.0)
  }

  /// The share of right answers of a classifier by least squares.
  ///
  /// - Parameters:
  ///   - x, labels: The examples that it is trained with, [N, D].
  ///   - y, wanted: Those that it is measured with.
  static func accuracy(_ x: Tensor, _ labels: [Int], _ y: Tensor, _ wanted: [Int]) throws -> Double
  {
    let classes = Array(Set(labels)).sorted()
    let columns = Dictionary(uniqueKeysWithValues: zip(classes, classes.indices))
    var targets = [Float](repeating: 0, count: labels.count * classes.count)
    for (row, label) in labels.enumerated() {
      if let column = columns[label] { targets[row * classes.count + column] = 1 }
    }
    let goal = try Tensor(targets, shape: [labels.count, classes.count]).to(.float64)
    let inputs = try extended(x)
    let (values, vectors) = try inputs.transpose(0, 1).matmul(inputs).eigh()
    let scales = try (values.clamped(min: 0) + penalty * Double(labels.count)).reciprocal()
    let rotated = try vectors.transpose(0, 1).matmul(inputs.transpose(0, 1).matmul(goal))
    let weights = try vectors.matmul(rotated * scales.unsqueeze(1))
    let answers: [Int] = try extended(y).matmul(weights).argmax(-1).array()
    let hits = zip(answers, wanted).count { classes[$0] == $1 }
    return Double(hits) / Double(max(wanted.count, 1))
  }

  /// The inputs in float64 with a column of ones.
  private static func extended(_ x: Tensor) throws -> Tensor {
    try Tensor.cat([x.to(.float64), .ones([x.size(0), 1], dtype: .float64)], 1)
  }
}
