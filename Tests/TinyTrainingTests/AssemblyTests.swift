import Foundation
import LTX
import NN
import Support
import TensorFiles
import Testing
import TinyTraining
import Torch

@Suite struct AssemblyTests {
  /// The stages' files, with random weights.
  private struct Stages {
    let parts: TinyCheckpoint.Parts
    let textEncoder: String

    init(in folder: String) throws {
      let model = try TinyModel.write(to: "\(folder)/random", generation: .ltx23)
      let file = try SafetensorsFile(path: model.checkpoint)
      let config = try Configuration(json: file.metadata["config"] ?? "", file: file.name)
      func write(_ component: String) throws -> String {
        let path = "\(folder)/\(component).safetensors"
        let keys = file.keys.filter { $0.hasPrefix("\(component).") }
        let part = "{\"\(component)\": \(try config.object(component).json)}"
        try writeSafetensors(
          keys.map { ($0, try file.tensor($0)) }, metadata: ["config": part], to: path)
        return path
      }
      parts = TinyCheckpoint.Parts(
        videoVAE: try write("vae"), audioVAE: try write("audio_vae"),
        vocoder: try write("vocoder"))
      textEncoder = "\(folder)/gemma"
      let encoder = try TextEncoderModel(seed: 1)
      try encoder.write(encoder.parameters, to: textEncoder)
    }
  }

  @Test func everyTensorOfAnAssembledModelIsUsed() throws {
    try withFolder { folder in
      let stages = try Stages(in: folder)
      let model = "\(folder)/model"
      try makeFolder(model)
      let path = "\(model)/\(TinyCheckpoint.name)"
      try TinyCheckpoint.writeInitial(stages.parts, seed: 1, to: path)
      try TinyCheckpoint.copyTextEncoder(stages.textEncoder, to: model)
      try TinyCheckpoint.verify(model)
      let checkpoint = try Checkpoint(path: path)
      #expect(checkpoint.version == ModelVersion("2.3.0"))
      #expect(try TextConfiguration(checkpoint.config).promptTokens == 64)
      // The random VAEs are larger than the trained ones.
      let bytes = try TinyCheckpoint.writeChecksums(model, limit: 40_000_000)
      #expect(bytes > 10_000_000)
      let checksums = try String(
        contentsOfFile: "\(model)/\(TinyCheckpoint.checksumsName)", encoding: .utf8)
      #expect(checksums.contains("\(try SHA256.hex(ofFile: path))  \(TinyCheckpoint.name)\n"))
      #expect(checksums.contains("  gemma/tokenizer.json\n"))
    }
  }

  @Test func aTrainedTransformerReplacesTheInitialOne() throws {
    try withFolder { folder in
      let stages = try Stages(in: folder)
      let (initial, trained) = ("\(folder)/initial.safetensors", "\(folder)/trained.safetensors")
      try TinyCheckpoint.writeInitial(stages.parts, seed: 1, to: initial)
      let before = try Checkpoint(path: initial)
      let key = "model.diffusion_model.proj_out.weight"
      let value = try before.source.tensor(key).to(.float32) + 0.25
      try before.writeTransformer(
        [Parameter(key: key, tensor: value)], dtype: .float32, to: trained)
      try TinyCheckpoint.write(initial: initial, transformer: trained, to: initial)
      let after = try Checkpoint(path: initial)
      #expect(after.source.keys == before.source.keys)
      for name in before.source.keys {
        let (old, new) = (try before.source.tensor(name), try after.source.tensor(name))
        #expect(old.dtype == new.dtype)
        #expect(try Tensor.isEqual(old, new) == (name != key), "\(name)")
      }
    }
  }

  @Test func theInitialTransformerPredictsZero() throws {
    let sizes = TinyTransformer.demo(videoChannels: 8, audioChannels: 4)
    let initial = try InitialTransformer(sizes, seed: 5)
    let tensors = Dictionary(initial.tensors.map { ($0.key, $0.tensor) }) { first, _ in first }
    for name in ["proj_out.weight", "audio_proj_out.bias", "adaln_single.linear.weight"] {
      let tensor = try #require(tensors["model.diffusion_model.\(name)"])
      #expect(try tensor.abs().max().item() == 0, "\(name)")
    }
    let bytes = initial.tensors.reduce(0) { $0 + $1.tensor.byteCount }
    #expect(bytes < 16_000_000)
  }

  @Test func modelsThatAreTooLargeAreRefused() throws {
    try withFolder { folder in
      let large = Data(count: TinyCheckpoint.maxBytes + 1)
      try large.write(to: URL(fileURLWithPath: "\(folder)/large"))
      #expect(throws: Issue.self) { try TinyCheckpoint.writeChecksums(folder) }
    }
  }
}
