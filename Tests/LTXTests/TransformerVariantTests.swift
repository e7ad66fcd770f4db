// B batch, T tokens, D width.

import BlockExecution
import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch
import Training

@testable import LTX

/// The layers that LTX-2.5 leaves out or adds. Each is compared with another model that computes the
/// same with the layers of LTX-2.3.
@Suite struct TransformerVariantTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private static let scope = "model.diffusion_model."

  /// A checkpoint of a small transformer, optionally with other tensors and another configuration.
  ///
  /// - Parameters:
  ///   - replacing: Pairs of texts in the configuration.
  ///   - change: Changes the tensors by their names below the transformer.
  private func checkpoint(
    isSplit: Bool, replacing: [(String, String)] = [],
    _ change: (inout [String: Tensor]) throws -> Void = { _ in }
  ) throws -> Checkpoint {
    var model = TinyTransformer.ltx25(isSplit: isSplit)
    (model.blocks, model.headWidth, model.audioHeadWidth) = (2, 12, 6)
    let path = scratch.file("\(UUID().uuidString).safetensors")
    try model.write(to: path, seed: 3)
    let file = try SafetensorsFile(path: path)
    var tensors: [String: Tensor] = [:]
    for key in file.keys { tensors[String(key.dropFirst(Self.scope.count))] = try file.tensor(key) }
    try change(&tensors)
    let config = try replacing.reduce(#require(file.metadata["config"])) {
      #expect($0.contains($1.0))
      return $0.replacingOccurrences(of: $1.0, with: $1.1)
    }
    let changed = scratch.file("\(UUID().uuidString).safetensors")
    try writeSafetensors(
      tensors.map { (key: Self.scope + $0, tensor: $1) }, metadata: ["config": config], to: changed)
    return try Checkpoint(path: changed)
  }

  /// Six tokens of each modality, of which the first three of the video are marked.
  private func inputs(
    _ c: TransformerConfiguration, isMarked: Bool = true, sigma: Double = 0.6
  ) throws -> PerModality<ModalityInput?> {
    let random = try Generator(seed: 5)
    return try PerModality { modality in
      let sizes = c.sizes[modality]
      return ModalityInput(
        latent: try random.normal([2, 6, sizes.inputs]), timesteps: try .full([2, 1], 0.6),
        sigma: try .full([2], Scalar(sigma)),
        positions: try random.uniform([2, sizes.maxPositions.count, 6, 2]),
        context: try random.normal([2, 5, sizes.contextWidth]),
        keyframesMask: modality == .video && isMarked
          ? try Tensor([1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0] as [Float], shape: [2, 6]) : nil)
    }
  }

  /// - Parameter given: The inputs; nil for those of the checkpoint's sizes.
  private func velocities(
    _ checkpoint: Checkpoint, _ given: PerModality<ModalityInput?>? = nil
  ) throws -> PerModality<Tensor?> {
    let transformer = try checkpoint.transformer(LoadPolicy(dtype: .float32))
    let inputs = try given ?? inputs(transformer.configuration)
    return try withInference { try transformer(inputs) }
  }

  private func distance(_ a: PerModality<Tensor?>, _ b: PerModality<Tensor?>) throws -> Double {
    try Modality.allCases.map { modality in
      try LoRAFixture.distance(#require(a[modality]), #require(b[modality]))
    }.max() ?? .nan
  }

  private func key(_ error: WeightError?) -> String {
    (error?.key ?? "").replacing(Self.scope, with: "")
  }

  /// The embedding is one more column of the input projection, for a channel that holds the mask.
  @Test func keyframesAreMarkedAfterTheInputProjection() throws {
    let own = try checkpoint(isSplit: false)
    let channels = TinyTransformer().videoChannels
    let other = try checkpoint(
      isSplit: false,
      replacing: [
        (",\n  \"use_keyframes_abs_pos_embedding\": true", ""),
        ("  \"in_channels\": \(channels)", "  \"in_channels\": \(channels + 1)"),
      ]
    ) { tensors in
      let embedding = try #require(tensors["keyframes_abs_pos_embedding"])
      tensors["keyframes_abs_pos_embedding"] = nil
      let projection = try #require(tensors["patchify_proj.weight"])
      tensors["patchify_proj.weight"] = try .cat([projection, embedding.transpose(0, 1)], 1)
    }
    let given = try inputs(TransformerConfiguration(own.config))
    var wider = given
    let video = try #require(given.video)
    let mask = try #require(video.keyframesMask).unsqueeze(-1)
    wider.video?.latent = try .cat([video.latent, mask], -1)
    let marked = try velocities(own, given)
    #expect(try distance(marked, velocities(other, wider)) < 1e-5)
    var unmarked = given
    unmarked.video?.keyframesMask = nil
    #expect(try distance(marked, velocities(own, unmarked)) > 1e-2)
  }

  @Test func aModelWithoutTheEmbeddingIgnoresMarks() throws {
    let checkpoint = try checkpoint(isSplit: true)
    let unmarked = try inputs(TransformerConfiguration(checkpoint.config), isMarked: false)
    #expect(try distance(velocities(checkpoint), velocities(checkpoint, unmarked)) == 0)
  }

  @Test func aMaskOfAnotherLengthIsRefused() throws {
    let checkpoint = try checkpoint(isSplit: false)
    var given = try inputs(TransformerConfiguration(checkpoint.config))
    given.video?.keyframesMask = try .ones([2, 5])
    let text = message { _ = try velocities(checkpoint, given) }
    #expect(text.contains("keyframes_mask") && text.contains("[2, 5]"))
  }

  /// The static modulation is that of a model whose prompt modulation adds nothing to the tables.
  @Test func theStaticModulationOfTheTextIsTheTable() throws {
    let own = try checkpoint(isSplit: true)
    let other = try checkpoint(
      isSplit: true, replacing: [(",\n  \"use_prompt_adaln_single\": false", "")]
    ) { tensors in
      for name in ["adaln_single", "audio_adaln_single"] {
        let prompt = name.replacing("adaln", with: "prompt_adaln")
        for (key, tensor) in tensors where key.hasPrefix("\(name).") {
          let isLast = key.hasPrefix("\(name).linear.")
          let width = try #require(tensors["\(name).emb.timestep_embedder.linear_1.bias"]).size(0)
          tensors[key.replacing(name, with: prompt)] =
            try isLast ? tensor.slice(0, to: 2 * width) * 0 : tensor
        }
      }
    }
    #expect(try distance(velocities(own), velocities(other)) < 1e-5)
    let zero = try checkpoint(isSplit: true) { tensors in
      for (key, tensor) in tensors where key.hasSuffix("prompt_scale_shift_table") {
        tensors[key] = try tensor * 0
      }
    }
    #expect(try distance(velocities(own), velocities(zero)) > 1e-2)
  }

  /// Without audio, sigma enters only the modulation of the text.
  @Test func theStaticModulationIgnoresSigma() throws {
    for isSplit in [true, false] {
      let checkpoint = try checkpoint(isSplit: isSplit)
      func video(sigma: Double) throws -> Tensor {
        var given = try inputs(TransformerConfiguration(checkpoint.config), sigma: sigma)
        given.audio = nil
        return try #require(velocities(checkpoint, given).video)
      }
      let difference = try LoRAFixture.distance(video(sigma: 0.9), video(sigma: 0.1))
      #expect(isSplit ? difference == 0 : difference > 1e-3)
    }
  }

  @Test func aLayerWithoutBiasesIsOneWhoseBiasesAreZero() throws {
    let own = try checkpoint(isSplit: true)
    let other = try checkpoint(
      isSplit: true,
      replacing: [(",\n  \"ff_bias\": false", ""), (",\n  \"audio_ff_bias\": false", "")]
    ) { tensors in
      for (key, tensor) in tensors where key.contains("transformer_blocks") {
        guard key.contains("ff.net."), key.hasSuffix(".weight") else { continue }
        tensors[key.replacing(".weight", with: ".bias")] = try .zeros([tensor.size(0)])
      }
    }
    #expect(try distance(velocities(own), velocities(other)) < 1e-6)
  }

  /// The configuration decides, and the file must agree with it.
  @Test func tensorsThatTheConfigurationDoesNotDescribeAreRefused() throws {
    func error(_ checkpoint: Checkpoint) -> WeightError? {
      #expect(throws: WeightError.self) { try checkpoint.transformer() }
    }
    let embedding = "keyframes_abs_pos_embedding"
    let missing = error(try checkpoint(isSplit: false) { $0[embedding] = nil })
    #expect(key(missing) == embedding && missing?.problem.contains("missing") == true)
    let wide = error(try checkpoint(isSplit: false) { $0[embedding] = try .ones([1, 47]) })
    #expect(key(wide) == embedding && wide?.problem.contains("[1, 47]") == true)
    let extra = error(try checkpoint(isSplit: true) { $0[embedding] = try .ones([1, 48]) })
    #expect(key(extra) == embedding)
    let bias = "transformer_blocks.1.ff.net.2.bias"
    #expect(key(error(try checkpoint(isSplit: false) { $0[bias] = try .ones([48]) })) == bias)
    let audioBias = "transformer_blocks.0.audio_ff.net.0.proj.bias"
    #expect(key(error(try checkpoint(isSplit: false) { $0[audioBias] = nil })) == audioBias)
    let table = "transformer_blocks.0.prompt_scale_shift_table"
    #expect(key(error(try checkpoint(isSplit: true) { $0[table] = nil })) == table)
    let adaLN = "prompt_adaln_single.linear.bias"
    #expect(key(error(try checkpoint(isSplit: true) { $0[adaLN] = try .ones([96]) })) == adaLN)
  }

  // MARK: Training

  private func example(_ c: TransformerConfiguration, isMarked: Bool) throws -> TrainingExample {
    let random = try Generator(seed: 7)
    let examples = try inputs(c, isMarked: isMarked).compactMap { modality, input in
      try ModalityExample(
        input: input, target: random.normal(input.latent.shape), lossMask: .ones([2, 6]))
    }
    return TrainingExample(video: examples.video, audio: examples.audio)
  }

  /// Every plan gives the same bits, for adapters and for weights, and wherever the weights are.
  @Test(arguments: [false, true], [false, true])
  func plansChangeNoBits(isSplit: Bool, isFull: Bool) throws {
    let checkpoint = try checkpoint(isSplit: isSplit)
    func gradients(
      _ activations: ActivationPolicy, _ autocast: DType?, _ placements: WeightPlacements
    ) throws -> [String: Tensor] {
      let fresh = FreshAdapters(
        targets: ["to_q", "to_v", "net.0.proj", "net.2"], rank: 2, alpha: 2,
        generator: try Generator(seed: 9))
      let transformer = try checkpoint.transformer(
        LoadPolicy(
          dtype: .float32, freshAdapters: isFull ? nil : fresh,
          trained: isFull ? .transformer() : nil, placements: placements))
      let step = TrainingStep(
        transformer: transformer,
        plan: ExecutionPlan(blocks: 2, activations: activations, autocast: autocast))
      return try step(example(transformer.configuration, isMarked: true)).gradients
    }
    for autocast in [nil, DType.bfloat16] {
      let kept = try gradients(.keep, autocast, .resident)
      #expect(kept.count > 10)
      var others = try ActivationPolicy.allCases.map { try gradients($0, autocast, .resident) }
      if !isFull { others.append(try gradients(.recompute, autocast, .all(.file))) }
      for other in others {
        #expect(Set(other.keys) == Set(kept.keys))
        for (key, gradient) in kept {
          #expect(try Tensor.isEqual(#require(other[key]), gradient), "\(key)")
        }
      }
    }
  }

  /// No token is marked in training, so the embedding is kept out of it and written unchanged.
  @Test func theEmbeddingIsNotTrained() throws {
    let checkpoint = try checkpoint(isSplit: false)
    let key = "\(Self.scope)keyframes_abs_pos_embedding"
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: .float32, trained: .transformer()))
    #expect(!transformer.parameters.contains { $0.key == key })
    #expect(transformer.parameters.contains { $0.key == "\(Self.scope)patchify_proj.weight" })
    let sizes = try checkpoint.transformerSizes(LoadPolicy(trained: .transformer()))
    #expect(sizes.trained.count == transformer.parameters.count)
    let path = scratch.file("written.safetensors")
    try checkpoint.writeTransformer(transformer.parameters, dtype: .float32, to: path)
    let written = try SafetensorsFile(path: path).tensor("keyframes_abs_pos_embedding")
    #expect(try Tensor.isEqual(written, checkpoint.source.tensor(key).to(.float32)))
    let error = #expect(throws: UnmatchedTarget.self) {
      try checkpoint.transformer(
        LoadPolicy(trained: .transformer(["keyframes_abs_pos_embedding"])))
    }
    #expect(error?.isExcluded == true)
  }

  /// A layer without a bias takes every kind of adapter.
  @Test(arguments: AdapterKind.allCases) func adaptersOfLayersWithoutBiases(_ kind: AdapterKind)
    throws
  {
    let checkpoint = try checkpoint(isSplit: true)
    let fresh = FreshAdapters(
      targets: ["net.0.proj", "net.2"], rank: 2, alpha: 2, kind: kind,
      generator: try Generator(seed: 9))
    let transformer = try checkpoint.transformer(LoadPolicy(dtype: .float32, freshAdapters: fresh))
    let own = try withInference { try transformer(inputs(transformer.configuration)) }
    // A new adapter changes nothing.
    #expect(try distance(own, velocities(checkpoint)) < 1e-5)
    let step = TrainingStep(
      transformer: transformer, plan: ExecutionPlan(blocks: 2, activations: .keep))
    let result = try step(example(transformer.configuration, isMarked: false))
    #expect(result.gradients.count == transformer.parameters.count)
    for gradient in result.gradients.values { #expect(try gradient.isAllFinite()) }
  }
}
