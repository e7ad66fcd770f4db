import Foundation
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LanguageModels
@testable import LoRAFiles
@testable import NN

/// Every number of every configuration in a file, replaced by ones that no model has: the result is
/// an error that names the file and the key, and never a trap, an endless loop or a large
/// allocation.
@Suite struct ConfigurationRangeTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A step of a path in a JSON value.
  private enum Step: CustomStringConvertible {
    case key(String)
    case index(Int)

    var description: String {
      switch self {
      case .key(let key): ".\(key)"
      case .index(let index): "[\(index)]"
      }
    }
  }

  private static let wrong: [Double] = [-1, 0, 2_147_483_647, 0x1p62]

  private func numbers(_ value: JSON, _ path: [Step] = []) -> [[Step]] {
    switch value {
    case .number: [path]
    case .array(let items): items.enumerated().flatMap { numbers($1, path + [.index($0)]) }
    case .object(let members):
      members.sorted { $0.key < $1.key }.flatMap { numbers($1, path + [.key($0)]) }
    case .null, .bool, .string: []
    }
  }

  private func replacing(_ value: JSON, _ path: ArraySlice<Step>, by number: Double)
    -> JSON
  {
    guard let step = path.first else { return JSON(number) }
    switch (step, value) {
    case (.key(let key), .object(var members)):
      members[key] = members[key].map { replacing($0, path.dropFirst(), by: number) }
      return .object(members)
    case (.index(let index), .array(var items)):
      items[index] = replacing(items[index], path.dropFirst(), by: number)
      return .array(items)
    default: return value
    }
  }

  /// The paths where a replacement went unnoticed, by the number that was inserted.
  private func unnoticed(
    _ json: String, file: String, _ read: (Configuration) throws -> Void
  ) throws -> [Double: Set<String>] {
    let whole = try JSON(parsing: json)
    var unnoticed: [Double: Set<String>] = [:]
    for path in numbers(whole) {
      for number in Self.wrong {
        guard case .object(let members) = replacing(whole, path[...], by: number) else { continue }
        let name = path.map(\.description).joined()
        do {
          try read(Configuration(values: members, file: file, path: "config"))
          unnoticed[number, default: []].insert(name)
        } catch {
          let text = "\(error)"
          #expect(text.contains(file) && text.count < 600, "\(name) = \(number): \(text)")
          if error is Support.Issue {
            // If two numbers don't fit together, the error may name either.
            #expect(text.contains("config."), "\(name) = \(number): \(text)")
          }
        }
      }
    }
    return unnoticed
  }

  @Test(arguments: TinyModel.Generation.allCases)
  func aCheckpointsConfiguration(_ generation: TinyModel.Generation) throws {
    let files = try TinyModel.write(to: scratch.folder, generation: generation)
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let json = try #require(checkpoint.source.metadata["config"])
    let unnoticed = try unnoticed(json, file: files.checkpoint) { config in
      let changed = Checkpoint(
        files: checkpoint.files, source: checkpoint.source, config: config)
      _ = try TransformerConfiguration(config)
      _ = try TextConfiguration(config)
      _ = try VideoVAEConfiguration.Decoder(config)
      _ = try VideoVAEConfiguration.Encoder(config)
      _ = try AudioVAEConfiguration(config)
      _ = try VocoderConfiguration(config)
      _ = try DurationHeadConfiguration(config)
      // Configurations without an error are compared with the weights.
      if let problem = CheckpointInspection(changed).problems.first {
        throw Refused(description: problem)
      }
    }
    // Rates and thresholds that no weight depends on, and keys that are not read.
    let free = [
      "timestep_scale_multiplier", "norm_eps", "sampling_rate", "sample_rate", "attn_resolutions",
      "resolution", "max_pos", "theta", "hop_length", "output_sampling_rate", "num_embeds_ada_norm",
      "scaling_factor", "encoder_base_channels", "norm_num_groups", "learnable_registers",
      "num_train_timesteps", "variables.mel_bins", "n_mel_channels", "mel_fmin", "mel_fmax",
      "win_length",
      "max_wav_value", "audio.duration", "causal_padding", "dropout", "win_size",
      "default_num_inference_steps",
    ]
    // Since LTX-2.3, text is projected before the transformer, whose own projection is then not
    // described.
    let unread = generation == .ltx2 ? [] : ["caption_channels"]
    for (number, places) in unnoticed {
      let bad = places.filter { place in !(free + unread).contains { place.contains($0) } }
      #expect(bad.isEmpty, "\(number): \(bad.sorted())")
    }
    for key in [
      ".transformer.num_layers", ".transformer.num_attention_heads", ".vae.patch_size",
      ".vae.latent_channels",
    ] {
      for number in Self.wrong {
        #expect(unnoticed[number]?.contains(key) != true, "\(key) = \(number)")
      }
    }
  }

  private struct Refused: Error, CustomStringConvertible { let description: String }

  @Test(arguments: GemmaConfiguration.Family.allCases)
  func aTextEncodersConfiguration(_ family: GemmaConfiguration.Family) throws {
    switch family {
    case .gemma3: try TinyGemma().write(to: scratch.url, seed: 1)
    case .gemma4: try TinyGemma4().write(to: scratch.url, seed: 1)
    }
    let file = "\(scratch.url.path)/config.json"
    let weights = try ShardedSafetensors(folder: scratch.url.path)
    let unnoticed = try unnoticed(String(contentsOfFile: file, encoding: .utf8), file: file) {
      config in
      do {
        _ = try GemmaModel(
          Weights(weights, LoadPolicy(isInspected: true)),
          configuration: GemmaConfiguration(config))
      } catch let error as WeightError {
        throw Refused(description: "\(file): \(error)")
      }
    }
    let free = [
      "eps", "sliding_window", "theta", "base_freq", "query_pre_attn_scalar", "token_id",
      "token_index",
      "factor",
      "max_position", "vision_config", "initializer", "mm_tokens", "softcap", "image",
      "audio_config", "dropout", "num_kv_shared_layers",
    ]
    for (number, places) in unnoticed {
      let bad = places.filter { place in !free.contains { place.contains($0) } }
      #expect(bad.isEmpty, "\(number): \(bad.sorted())")
    }
  }

  @Test func anUpsamplersConfiguration() throws {
    let files = try TinyModel.write(to: scratch.folder)
    for name in try FileManager.default.contentsOfDirectory(atPath: scratch.folder)
    where name.contains("upscaler") {
      let path = "\(scratch.folder)/\(name)"
      let source = try SafetensorsFile(path: path)
      let unnoticed = try unnoticed(#require(source.metadata["config"]), file: path) { config in
        _ = try LatentUpsampler(
          Weights(source, LoadPolicy(isInspected: true)),
          configuration: LatentUpsamplerConfiguration(config))
      }
      #expect(
        unnoticed.values.allSatisfy { $0.allSatisfy { $0.contains("spatial_scale") } },
        "\(unnoticed)")
    }
    #expect(FileManager.default.fileExists(atPath: files.checkpoint))
  }

  @Test func anAdaptersConfiguration() throws {
    let json =
      "{\"r\": 8, \"lora_alpha\": 8, \"use_rslora\": false, \"alpha_pattern\": {\"to_q\": 4}}"
    let unnoticed = try unnoticed(json, file: "adapter_config.json") { config in
      _ = try PEFTConfiguration(config, hasMagnitudes: false)
    }
    // An alpha of 0 is an adapter without effect.
    #expect(unnoticed == [0: [".lora_alpha", ".alpha_pattern.to_q"]], "\(unnoticed)")
  }

  /// Token ids: an error, or a tokenizer that encodes.
  @Test func aTokenizersNumbers() throws {
    let files = try TinyModel.write(to: scratch.folder)
    let file = "\(files.textEncoder)/tokenizer.json"
    let whole = try JSON(parsing: Data(contentsOf: URL(fileURLWithPath: file)))
    let paths = numbers(whole)
    #expect(paths.count > 300)
    for path in paths.enumerated().filter({ $0.offset % 37 == 0 }).map(\.element) {
      for number in Self.wrong {
        let changed = replacing(whole, path[...], by: number).data(
          JSONFormat(normalizesNumbers: true))
        do {
          _ = try Tokenizer(json: Array(changed), file: file).encodePrompt("a cat on a boat")
        } catch {
          #expect("\(error)".contains(file), "\(error)")
        }
      }
    }
  }

  /// Numbers that are too large only in combination.
  @Test func productsAreBounded() throws {
    func vae(_ blocks: String, _ more: String = "") throws -> Configuration {
      try Configuration(
        json: """
          {"vae": {"decoder_blocks": [\(blocks)], "encoder_blocks": [\(blocks)], "spatial_padding_mode": "zeros"\(more)},
           "vocoder": {"resblock": "1", "stereo": true, "upsample_rates": [4096, 4096, 4096, 4096, 4096, 4096],
             "upsample_kernel_sizes": [4096, 4096, 4096, 4096, 4096, 4096]}}
          """, file: "model.safetensors")
    }
    let wide = try vae(
      Array(repeating: "[\"res_x_y\", {\"multiplier\": 4096}]", count: 6).joined(separator: ", "))
    let deep = try vae(
      Array(repeating: "[\"compress_all\", {}]", count: 70).joined(separator: ", "))
    let long = try vae(Array(repeating: "[\"res_x\", 1]", count: 1025).joined(separator: ", "))
    for (config, problem) in [
      (wide, "channels, expected at most 1048576"), (deep, "compresses by more than 4096"),
      (long, "has 1025 entries, expected at most 1024"),
    ] {
      for text in [
        message { _ = try VideoVAEConfiguration.Decoder(config) },
        message { _ = try VideoVAEConfiguration.Encoder(config) },
      ] {
        #expect(
          text.contains(problem) && text.contains("model.safetensors: config.vae."), "\(text)")
      }
    }
    #expect(
      message { _ = try VocoderConfiguration(wide) }.contains("multiply to more than 1048576"))
    #expect(
      message {
        _ = try VideoVAEConfiguration.Decoder(vae("[\"res_x\", 1]", ", \"patch_size\": 2147483647"))
      }
      .contains(
        "config.vae.patch_size: must be between 1 and 4096 (got 2147483647)"))
  }

  @Test(arguments: [
    ("{\"a\": 1, \"a\": 2}", "two members named \"a\""),
    ("{\"a\": 1e999}", "a number is too large"),
    ("{\"a\": NaN}", "is not valid JSON"),
    (String(repeating: "[", count: 100_000), "nested too deeply"),
    ("{\"a\": 01}", "is not valid JSON"), ("{\"a\": 1} 2", "is not valid JSON"),
  ])
  func jsonThatDecodersDisagreeAboutIsRefused(_ json: String, _ problem: String) {
    #expect(message { _ = try Configuration(json: json, file: "m.safetensors") }.contains(problem))
  }

  @Test func numbersAreNamedAsTheyAreWritten() throws {
    let c = try Configuration(
      json: "{\"a\": 2.5, \"b\": 1e300, \"c\": [1, 70000000]}", file: "m.safetensors")
    #expect(
      message { _ = try c.positive("a") } == "m.safetensors: config.a: must be an integer (got 2.5)"
    )
    #expect(
      message { _ = try c.positive("b") }
        == "m.safetensors: config.b: must be an integer (got 1e+300)")
    #expect(
      message { _ = try c.ints("c") }
        == "m.safetensors: config.c: must hold integers between 0 and 1048576 (got 70000000)")
    #expect(
      message { _ = try c.ints("c", in: 0...1 << 40, count: 3...3) }.contains(
        "has 2 entries, expected 3"))
    #expect(message { _ = try c.double("b") }.contains("(got 1e+300)"))
  }
}
