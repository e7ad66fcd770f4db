import DemoData
import Foundation
import LTX
import LanguageModels
import Support
import Testing
import TinyTraining

@Suite struct TextEncoderTests {
  /// A smaller text encoder, for speed.
  private static var sizes: TinyGemma {
    var sizes = TinyGemma.demo
    (sizes.width, sizes.layers, sizes.feedForwardWidth) = (32, 2, 64)
    (sizes.heads, sizes.keyValueHeads, sizes.headWidth) = (2, 1, 16)
    return sizes
  }

  private static func options(steps: Int) -> StageOptions {
    var options = StageOptions(steps: steps, seed: 3, learningRate: 1e-2)
    (options.warmupSteps, options.stepsPerEvaluation) = (2, 1000)
    return options
  }

  @Test func trainingLowersTheLossOfHeldOutCaptions() throws {
    try withFolder { folder in
      let model = try TextEncoderModel(seed: 3, sizes: Self.sizes, batchSize: 8)
      let stage = try Stage(model, Self.options(steps: 40), folder: folder)
      let before = try loss(model)
      #expect(try stage.run())
      let after = try stage.withAverages { try loss(model) }
      // A guess among all tokens has a loss of log(1024) = 6.9.
      #expect(before > 6)
      #expect(after < 0.7 * before, "\(before) to \(after)")
    }
  }

  private func loss(_ model: TextEncoderModel) throws -> Double {
    try model.evaluate().first { $0.name == "held_out_loss" }?.value ?? .nan
  }

  @Test func theFolderIsATextEncoder() throws {
    try withFolder { folder in
      let model = try TextEncoderModel(seed: 3, sizes: Self.sizes, batchSize: 2)
      let stage = try Stage(model, Self.options(steps: 1), folder: folder)
      #expect(try stage.run())
      try model.write(stage.averaged, to: "\(folder)/gemma")
      let encoder = try openTextEncoder(at: "\(folder)/gemma")
      #expect(encoder.width == 32)
      #expect(encoder.hiddenStateCount == 3)
      let tokenizer = try openTokenizer(at: "\(folder)/gemma")
      try checkRoundTrips(tokenizer)
      try checkCaptions(tokenizer)
    }
  }

  /// Text in any language comes back, bytes by bytes where no token fits.
  private func checkRoundTrips(_ tokenizer: Tokenizer) throws {
    for text in [
      "", " ", "  two  spaces ", "A red circle.", "\u{0}\u{1}\u{7F}", "tabs\tand\r\nlines\n\n\n",
      "Größe, naïve, 12.5 %", "красный круг", "赤い丸が左へ動く", "👩‍👩‍👧‍👦 e\u{301}", "\u{FEFF}\u{202E}abc",
      "<0x41> <unk> <unused0", "SKETCHSTYLE. SNOWSTYLE.", String(repeating: "x", count: 5000),
    ] {
      let ids = try tokenizer.encode(text, addBOS: false)
      #expect(tokenizer.decode(ids, skipSpecialTokens: false) == text)
      #expect(ids.allSatisfy { $0 < 1024 })
    }
  }

  /// Most words of the world have a token of their own, so that captions are short.
  private func checkCaptions(_ tokenizer: Tokenizer) throws {
    for style in DemoScene.Style.allCases {
      for scene in DemoWorld(seed: 9, style: style, part: .heldOut).scenes(0..<100) {
        let count = try tokenizer.promptLength(scene.caption)
        #expect(count <= TinyTransformer.demoPromptTokens, "\(scene.caption)")
        #expect(count <= 2 * scene.caption.split(separator: " ").count, "\(scene.caption)")
      }
    }
    for color in DemoScene.Color.allCases {
      #expect(try tokenizer.encode(" \(color.rawValue)", addBOS: false).count == 1)
    }
  }
}

/// Runs `body` with the path of a new folder, which is removed afterwards.
func withFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("tiny-\(UInt64.random(in: 0 ... .max))")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder.path)
}
