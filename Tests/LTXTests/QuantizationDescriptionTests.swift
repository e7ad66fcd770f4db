import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import NN

/// The description of quantized weights in a file is applied, or rejected by name.
@Suite struct QuantizationDescriptionTests {
  private let scratch: Scratch
  private let random: Generator

  init() throws {
    scratch = try Scratch()
    try FileManager.default.createDirectory(
      atPath: scratch.folder, withIntermediateDirectories: true)
    random = try Generator(seed: 5)
  }

  private func source(
    _ tensors: [(key: String, tensor: Tensor)], metadata: [String: String] = [:]
  ) throws -> any TensorSource {
    let path = "\(scratch.folder)/\(UUID().uuidString).safetensors"
    try writeSafetensors(tensors, metadata: metadata, to: path)
    return try DescribedTensors.describing(SafetensorsFile(path: path))
  }

  private func expectEqual(_ a: Tensor, _ b: Tensor, within tolerance: Double, _ what: String = "")
    throws
  {
    let (a, b) = (try a.to(.float32), try b.to(.float32))
    let error =
      try (a - b).square().sum().item().squareRoot() / b.square().sum().item().squareRoot()
    #expect(error <= tolerance, "\(what): \(error)")
  }

  /// The weight of a rotated layer: W of W R^T.
  private func convRot(_ group: Int, isPerRow: Bool = true) throws -> (
    tensors: [(key: String, tensor: Tensor)], weight: Tensor
  ) {
    let rotated = try QuantizedFile.rotated(random.normal([24, 2 * group]), group)
    var (elements, scale) = try QuantizedFile.int8(rotated)
    if !isPerRow {
      scale = try (rotated.abs().max() / 127).reshape([])
      elements = try (rotated / scale).round().to(.int8)
    }
    let values = try QuantizedFile.rotated(elements.to(.float32) * scale, group)
    return (
      [
        ("l.weight", elements), ("l.weight_scale", scale), ("l.bias", try random.normal([24])),
        ("l.comfy_quant", try QuantizedFile.bytes(QuantizedFile.convRot(group))),
      ], values
    )
  }

  @Test(arguments: [4, 16, 64, 256], [true, false])
  func aConvRotLayerIsTheLayerThatWasRotated(group: Int, isPerRow: Bool) throws {
    let (tensors, weight) = try convRot(group, isPerRow: isPerRow)
    let file = try source(tensors)
    let bias = tensors[2].tensor
    for (dtype, tolerance) in [(DType.float32, 1e-5), (.bfloat16, 0.01)] {
      for storage in [WeightStorage.asStored, .dequantized, .int8] {
        let root = Weights(file, LoadPolicy(dtype: dtype, storage: storage))
        let layer = try Linear(root / "l")
        try expectEqual(layer.weight, weight, within: tolerance, "weight")
        let x = try random.normal([3, 2 * group]).asLeaf()
        let y = try layer(x.to(dtype))
        #expect(y.dtype == dtype)
        try expectEqual(y, x.linear(weight, bias), within: tolerance, "product")
        let dy = try random.normal([3, 24])
        let gradient = try #require(try grad(of: [y], wrt: [x], gradOutputs: [dy.to(dtype)])[0])
        try expectEqual(gradient, dy.matmul(weight), within: tolerance, "gradient")
        #expect(root.unusedKeys.isEmpty)
      }
    }
  }

  @Test func adaptersBesideAConvRotLayerAndInItActOnTheLayersOwnInputs() throws {
    let (tensors, weight) = try convRot(16)
    let file = try source(tensors)
    let (down, up) = (try random.normal([4, 32]), try random.normal([24, 4]))
    for adapter in [
      LoRAAdapter(down: down, up: up, scale: 0.3),
      DoRAAdapter(down: down, up: up, magnitude: try random.uniform([24]), scale: 0.3),
    ] as [any Adapter] {
      let plain = try source([("l.weight", weight), ("l.bias", tensors[2].tensor)])
      let x = try random.normal([3, 32])
      for placement in [AdapterSet.Placement.separate, .fused] {
        var adapters = AdapterSet()
        adapters.placement = placement
        adapters.add(adapter, to: "l")
        let found = try Linear(
          Weights(file, LoadPolicy(dtype: .float32, adapters: adapters)) / "l")(x)
        let wanted = try Linear(
          Weights(plain, LoadPolicy(dtype: .float32, adapters: adapters)) / "l")(x)
        try expectEqual(found, wanted, within: 1e-4, "\(placement)")
      }
    }
  }

  @Test func descriptionsInTheMetadataAreThoseBesideTheLayers() throws {
    let (tensors, weight) = try convRot(64)
    let bare = tensors.filter { $0.key != "l.comfy_quant" }
    func file(_ json: String) throws -> any TensorSource {
      try source(bare, metadata: ["_quantization_metadata": json])
    }
    for name in ["l", "model.diffusion_model.l", "diffusion_model.l"] {
      let json =
        "{\"format_version\": \"1.0\", \"layers\": {\"\(name)\": \(QuantizedFile.convRot(64))}}"
      let root = Weights(try file(json), LoadPolicy(dtype: .float32))
      try expectEqual(Linear(root / "l").weight, weight, within: 1e-5)
      #expect(root.unusedKeys.isEmpty)
    }
    for (json, problem) in [
      ("[]", "is not a JSON object"), ("{", "is not valid JSON"), ("{}", "layers: is missing"),
      (
        "{\"layers\": {\"m\": {\"format\": \"mxfp8\"}}}",
        "layers.m: describes a layer that the file does not have"
      ),
      ("{\"layers\": {\"l\": {}, \"l\": {}}}", "two members named \"l\""),
      ("{\"layers\": {\"l\": 3}}", "must be an object"),
    ] {
      let text = message { _ = try file(json) }
      #expect(text.contains(problem) && text.contains("_quantization_metadata"), "\(text)")
    }
    let refused = try file("{\"layers\": {\"l\": {\"format\": \"mxfp8\"}}}")
    #expect(message { _ = try Linear(Weights(refused) / "l") }.contains("\"mxfp8\""))
    // Both places may hold the same description, but not different ones.
    let same = "{\"layers\": {\"l\": \(QuantizedFile.convRot(64))}}"
    try expectEqual(
      Linear(
        Weights(
          source(tensors, metadata: ["_quantization_metadata": same]), LoadPolicy(dtype: .float32))
          / "l"
      )
      .weight,
      weight, within: 1e-5)
    let other = "{\"layers\": {\"l\": \(QuantizedFile.convRot(16))}}"
    #expect(
      message { _ = try source(tensors, metadata: ["_quantization_metadata": other]) }.contains(
        "contradicts l.comfy_quant"))
  }

  @Test(arguments: [
    ("{\"format\": \"int8_tensorwise\", \"full_precision_matrix_mult\": true, \"orig_dtype\": \"torch.bfloat16\"}"),
    ("{\"format\": \"int8_tensorwise\", \"per_row\": true, \"orig_shape\": [8, 32]}"),
    ("{\"format\": \"int8_tensorwise\", \"convrot\": false, \"convrot_groupsize\": 256}"),
    ("{\"format\": \"int8_tensorwise\", \"params\": {\"convrot\": false}}"),
  ])
  func descriptionsThatChangeNothingAreAccepted(_ json: String) throws {
    let (elements, scale) = try QuantizedFile.int8(random.normal([8, 32]))
    let file = try source([
      ("l.weight", elements), ("l.weight_scale", scale),
      ("l.comfy_quant", QuantizedFile.bytes(json)),
    ])
    let layer = try Linear(Weights(file, LoadPolicy(dtype: .float32)) / "l", bias: false)
    #expect(try Tensor.isEqual(layer.weight, elements.to(.float32) * scale))
  }

  @Test func theOlderPlaceOfTheRotationCounts() throws {
    var (tensors, weight) = try convRot(4)
    let json =
      "{\"format\": \"int8_tensorwise\", \"params\": {\"convrot\": true, \"convrot_groupsize\": 4}}"
    tensors[3].tensor = try QuantizedFile.bytes(json)
    try expectEqual(
      Linear(Weights(source(tensors), LoadPolicy(dtype: .float32)) / "l").weight, weight,
      within: 1e-5)
  }

  @Test(arguments: [
    ("not JSON", "must hold the quantization format as a JSON object"),
    ("", "must hold the quantization format"),
    ("[1]", "must hold a JSON object"), ("{}", "format: is missing"),
    ("{\"format\": 3}", "format: must be a string"),
    (
      "{\"format\": \"int8_blockwise\", \"group_size\": 64}",
      "\"int8_blockwise\" (scales in blocks)"
    ),
    ("{\"format\": \"nvfp4\"}", "(expected uint8 with two elements in each byte"),
    ("{\"format\": \"mxfp8\"}", "\"mxfp8\""),
    ("{\"format\": \"convrot_w4a4\"}", "\"convrot_w4a4\""),
    ("{\"format\": \"svdquant\"}", "\"svdquant\""),
    ("{\"format\": \"float8_e4m3fn\"}", "is int8, but comfy_quant says float8_e4m3fn"),
    (
      "{\"format\": \"int8_tensorwise\", \"group_size\": 64}",
      "l.comfy_quant.group_size: is not known"
    ),
    ("{\"format\": \"int8_tensorwise\", \"params\": {\"zero\": 1}}", "params.zero: is not known"),
    ("{\"format\": \"int8_tensorwise\", \"convrot\": true}", "can't be rotated in groups of 256"),
    (
      "{\"format\": \"int8_tensorwise\", \"convrot\": true, \"convrot_groupsize\": 32}",
      "must be a power of 4"
    ),
    (
      "{\"format\": \"int8_tensorwise\", \"convrot\": true, \"convrot_groupsize\": 64}",
      "in groups of 64"
    ),
    (
      "{\"format\": \"int8_tensorwise\", \"convrot\": true, \"convrot_groupsize\": 0}",
      "must be between 1"
    ),
    ("{\"format\": \"int8_tensorwise\", \"convrot\": 1}", "convrot: must be true or false"),
    ("{\"format\": \"int8_tensorwise\", \"orig_shape\": [32, 8]}", "comfy_quant says [32, 8]"),
    ("{\"format\": \"int8_tensorwise\", \"per_row\": false}", "one for the tensor"),
    (
      "{\"format\": \"int8_tensorwise\", \"format\": \"int8_tensorwise\"}",
      "two members named \"format\""
    ),
  ])
  func unsupportedDescriptionsAreRefusedByName(_ json: String, _ problem: String) throws {
    let (elements, scale) = try QuantizedFile.int8(random.normal([8, 32]))
    let file = try source([
      ("l.weight", elements), ("l.weight_scale", scale),
      ("l.comfy_quant", QuantizedFile.bytes(json)),
    ])
    for storage in [WeightStorage.asStored, .dequantized, .int8] {
      let text = message {
        _ = try Linear(Weights(file, LoadPolicy(storage: storage)) / "l", bias: false)
      }
      #expect(text.contains(problem), "\(text)")
      #expect(text.contains(file.name) && text.contains("l."), "\(text)")
    }
    #expect(message { _ = try (Weights(file) / "l").tensor("weight") }.contains(problem))
  }

  @Test func aDescriptionNeedsAScaleAndFp8IsNotRotated() throws {
    let (elements, scale) = try QuantizedFile.int8(random.normal([8, 32]))
    let alone = try source([
      ("l.weight", elements),
      ("l.comfy_quant", QuantizedFile.bytes("{\"format\": \"int8_tensorwise\"}")),
    ])
    #expect(
      message { _ = try Linear(Weights(alone) / "l", bias: false) }.contains("without a scale"))
    let fp8 = try random.normal([8, 32]).to(.float8E4M3)
    typealias Tensors = [(key: String, tensor: Tensor)]
    let scaled: Tensors = [("l.weight", fp8), ("l.weight_scale", scale)]
    let wide: Tensors = [("l.weight", try fp8.to(.bfloat16)), ("l.weight_scale", scale)]
    let cases: [(json: String, tensors: Tensors, problem: String)] = [
      (
        "{\"format\": \"float8_e4m3fn\"}", [("l.weight", fp8)],
        "has no scale (expected weight_scale)"
      ),
      (
        "{\"format\": \"float8_e4m3fn\", \"convrot\": true, \"convrot_groupsize\": 4}", scaled,
        "is supported only for int8_tensorwise"
      ),
      (
        "{\"format\": \"float8_e5m2\"}", scaled,
        "is float8_e4m3fn, but comfy_quant says float8_e5m2"
      ),
      ("{\"format\": \"int8_tensorwise\"}", wide, "is bfloat16, but comfy_quant says"),
    ]
    for (json, tensors, problem) in cases {
      let file = try source(tensors + [("l.comfy_quant", QuantizedFile.bytes(json))])
      let text = message { _ = try Linear(Weights(file) / "l", bias: false) }
      #expect(text.contains(problem), "\(text)")
    }
  }

  @Test func scalesArePositive() throws {
    let (elements, _) = try QuantizedFile.int8(random.normal([8, 32]))
    for scale in [0, -0.5, Double.infinity] {
      let file = try source([
        ("l.weight", elements), ("l.weight_scale", Tensor.full([8, 1], Scalar(scale))),
      ])
      let text = message { _ = try Linear(Weights(file) / "l", bias: false) }
      #expect(
        text.contains("l.weight_scale")
          && text.contains(scale.isFinite ? "must be positive" : "finite"))
    }
  }

  @Test func theMarkerOfScaledFp8FitsTheWeights() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let source = try SafetensorsFile(path: files.checkpoint)
    let layer = "model.diffusion_model.transformer_blocks.0.attn1.to_q"
    func checkpoint(_ marker: DType, _ weight: DType) throws -> Checkpoint {
      let path = "\(scratch.folder)/\(UUID().uuidString).safetensors"
      let tensors = try source.keys.map { key in
        (
          key: key,
          tensor: try key == "\(layer).weight" ? source.tensor(key).to(weight) : source.tensor(key)
        )
      }
      try writeSafetensors(
        tensors + [
          ("\(layer).scale_weight", Tensor.ones([1])),
          ("model.diffusion_model.scaled_fp8", Tensor.zeros([2]).to(marker)),
        ], metadata: source.metadata, to: path)
      return try Checkpoint(path: path)
    }
    _ = try checkpoint(.float8E5M2, .float8E5M2).transformer()
    _ = try checkpoint(.float32, .float8E4M3).transformer()
    #expect(
      message { _ = try checkpoint(.float8E5M2, .float8E4M3).transformer() }.contains(
        "\(layer).weight is not float8_e5m2, which scaled_fp8 says"))
    #expect(
      message { _ = try checkpoint(.uint8, .float8E4M3).transformer() }.contains(
        "scaled_fp8 marks weights as uint8"))
  }

  /// All components, through the code that generation and training use.
  @Test func aModelInConvRotEqualsTheUnquantizedModel() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let whole = try SafetensorsFile(path: files.checkpoint)
    let path = "\(scratch.folder)/convrot.safetensors"
    try QuantizedFile.writeConvRot(whole, to: path) {
      $0.contains("blocks.") && !$0.hasPrefix("vae")
    }
    let (rounded, plain) = (try Checkpoint(path: path), try Checkpoint(path: files.checkpoint))
    let inspection = CheckpointInspection(rounded)
    #expect(inspection.problems.isEmpty && inspection.unknownKeys.isEmpty)
    let formats = inspection.components.first { $0.name == "transformer" }?.formats ?? [:]
    #expect(
      formats.values.reduce(0, +) == 112 && formats["int8_tensorwise (ConvRot 64)"] != nil,
      "\(formats)")
    #expect(inspection.components.first { $0.name == "text connectors" }?.formats.isEmpty == false)

    let (context, latent) = (try random.normal([1, 128, 64]), try random.normal([1, 4, 16]))
    func velocity(_ checkpoint: Checkpoint) throws -> Tensor {
      let transformer = try checkpoint.transformer(LoadPolicy(dtype: .float32), modalities: .video)
      let video = ModalityInput(
        latent: latent, timesteps: try Tensor.full([1, 1], 0.5), sigma: try Tensor.full([1], 0.5),
        positions: try VideoTokens.positions(
          batch: 1, frames: 1, rows: 2, columns: 2, fps: 24, factors: .usual), context: context)
      return try #require(try transformer(PerModality(video: video, audio: nil)).video)
    }
    try expectEqual(velocity(rounded), velocity(plain), within: 0.03, "velocity")
    let features = try random.normal([1, 128, 64])
    func connected(_ checkpoint: Checkpoint) throws -> Tensor {
      let mask = try Tensor.ones([1, 128], dtype: .int64)
      return try #require(
        try checkpoint.textConnectors(dtype: .float32)(
          TextFeatures(PerModality(video: features, audio: features), mask: mask)
        ).byModality.video)
    }
    try expectEqual(connected(rounded), connected(plain), within: 0.03, "connectors")

    // The text encoder, including its embeddings.
    let folder = files.textEncoder
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(".safetensors") {
      let copy = try SafetensorsFile(
        name: name, content: Array(Data(contentsOf: URL(filePath: "\(folder)/\(name)"))))
      try FileManager.default.createDirectory(
        atPath: folder + "-rounded", withIntermediateDirectories: true)
      try QuantizedFile.writeConvRot(copy, to: "\(folder)-rounded/\(name)") { _ in true }
    }
    let index = try index(of: "\(folder)-rounded")
    for name in ["config.json", "tokenizer.json"] {
      try FileManager.default.copyItem(
        atPath: "\(folder)/\(name)", toPath: "\(folder)-rounded/\(name)")
    }
    try Data(index.utf8).write(to: URL(filePath: "\(folder)-rounded/model.safetensors.index.json"))
    func text(_ encoder: String) throws -> Tensor {
      try plain.promptEncoder(textEncoder: encoder, dtype: .float32)(["a cat"]).byModality.video
    }
    try expectEqual(text("\(folder)-rounded"), text(folder), within: 0.03, "text features")

    // The transformer in a separate file.
    let alone = "\(scratch.folder)/transformer.safetensors"
    let part = try SafetensorsFile(path: path)
    try writeSafetensors(
      part.keys.filter { $0.hasPrefix("model.diffusion_model.") && !$0.contains("_connector.") }.map
      {
        (key: String($0.dropFirst("model.".count)), tensor: try part.tensor($0))
      }, to: alone)
    try expectEqual(
      velocity(plain.replacingTransformer(by: alone)), velocity(rounded), within: 1e-6,
      "transformer's file")
  }

  private func index(of folder: String) throws -> String {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    let places = try names.flatMap { name in
      try SafetensorsFile(path: "\(folder)/\(name)").keys.map { "\"\($0)\": \"\(name)\"" }
    }
    return "{\"weight_map\": {\(places.joined(separator: ", "))}}"
  }
}
