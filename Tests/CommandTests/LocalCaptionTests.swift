import Foundation
import Support
import TestSupport
import Testing

/// `ltx caption` with a model in its own process. The models are tiny and random, so that their
/// words mean nothing.
@Suite struct LocalCaptionTests {
  private let shop: Workshop

  init() throws {
    shop = try Workshop()
    try FileManager.default.copyItem(atPath: Clips.all()[3], toPath: shop.path + "/a.mp4")
  }

  private func caption(_ arguments: [String]) throws -> Program.Result {
    try Program.run(
      ["caption", ".", "--max-tokens", "6", "--threads", "1"] + arguments, in: shop.path)
  }

  private func captions() throws -> [String] {
    let data = try Data(contentsOf: URL(fileURLWithPath: shop.path + "/dataset.json"))
    return try JSON(parsing: data).array?.compactMap { $0["caption"]?.string } ?? []
  }

  @Test(arguments: ["qwen25_omni", "qwen3_omni"]) func clipsAreCaptioned(model: String) throws {
    let options = ["--captioner-model", "\(Fixtures.models)/\(model)", "--dtype", "float32"]
    let first = try caption(options)
    #expect(first.status == 0, "\(first.errors)")
    #expect(first.errors.contains("captioning 1 clip with \(Fixtures.models)/\(model) on cpu\n"))
    // The limit on tokens ends it.
    #expect(first.errors.contains("warning: a.mp4: "), "\(first.errors)")
    let captions = try captions()
    #expect(captions.count == 1 && captions.allSatisfy { !$0.isEmpty })
    let second = try caption(options)
    #expect(second.status == 0 && second.output.contains("all have captions"))
    // Greedy decoding repeats itself, also with weights that are read when they are needed.
    for more in [["--override"], ["--override", "--memory", "1GB"]] {
      let again = try caption(options + more)
      #expect(again.status == 0, "\(again.errors)")
      #expect(try self.captions() == captions)
    }
  }

  /// The weights on the device, streamed, and in int8: the captions of the CPU. Without a limit, all
  /// experts of a layer are one tensor.
  @Test(arguments: ["qwen25_omni", "qwen3_omni"])
  func aGPUWritesTheCaptionsOfTheCPU(model: String) throws {
    let options = [
      "--captioner-model", "\(Fixtures.models)/\(model)", "--dtype", "float32", "--override",
    ]
    for storage in [[], ["--use-8bit"]] {
      let cpu = try caption(options + storage)
      try #require(cpu.status == 0, "\(cpu.errors)")
      let expected = try captions()
      #expect(expected.count == 1 && expected.allSatisfy { !$0.isEmpty })
      for memory in [[], ["--memory", "1GB"]] {
        let (result, report) = try PretendGPU.run(
          ["caption", ".", "--max-tokens", "6", "--threads", "1", "--device", "cuda"] + options
            + storage + memory, in: shop.path)
        try #require(result.status == 0, "\(result.errors)")
        #expect(try captions() == expected, "\(storage + memory)")
        #expect(report.kernels > 300, "nothing ran on the device")
        #expect(report.devices.allSatisfy { $0.liveBytes == 0 }, "memory is left on the device")
      }
    }
  }

  @Test(arguments: ["qwen25_omni", "qwen3_omni"])
  func aGPUComputesInBFloat16(model: String) throws {
    for storage in [[], ["--use-8bit"]] {
      let (result, _) = try PretendGPU.run(
        [
          "caption", ".", "--max-tokens", "6", "--threads", "1", "--device", "cuda", "--override",
          "--captioner-model", "\(Fixtures.models)/\(model)",
        ] + storage, in: shop.path)
      try #require(result.status == 0, "\(result.errors)")
      #expect(try captions().allSatisfy { !$0.isEmpty })
    }
  }

  @Test func foldersThatAreNoModelAreRefused() throws {
    let gemma = try caption(["--captioner-model", "\(Fixtures.models)/gemma3"])
    #expect(gemma.status == 2)
    #expect(gemma.errors.contains("error: --captioner-model"), "\(gemma.errors)")
    let missing = try caption(["--captioner-model", "\(shop.path)/none"])
    #expect(missing.status == 2 && missing.errors.contains("none"), "\(missing.errors)")

    // A model whose download was not finished.
    let partial = "\(shop.path)/partial"
    try FileManager.default.copyItem(atPath: "\(Fixtures.models)/qwen25_omni", toPath: partial)
    try FileManager.default.removeItem(atPath: "\(partial)/model-00002-of-00002.safetensors")
    let incomplete = try caption(["--captioner-model", partial])
    #expect(incomplete.status == 2)
    #expect(incomplete.errors.contains("model-00002-of-00002"), "\(incomplete.errors)")
    #expect(!FileManager.default.fileExists(atPath: shop.path + "/dataset.json"))
  }
}
