import DemoData
import LTX
import Torch

/// The captions that the text encoder is trained on and measured with: those of training scenes of
/// all styles, and of held-out scenes.
struct CaptionSource {
  /// The seed of the world.
  let seed: UInt64

  private static let sceneCount = 1 << 20
  private static let vocabularyScenes = 2000

  private func world(_ style: DemoScene.Style, _ part: DemoWorld.Part = .training) -> DemoWorld {
    DemoWorld(seed: seed, style: style, part: part)
  }

  /// Random captions. Every second one is of the plain style.
  func batch(_ count: Int, seed: UInt64) -> [String] {
    let others = DemoScene.Style.allCases.filter { $0 != .plain }
    return (0..<count).map { position in
      let number = RandomSeed.mix(seed, "caption", position)
      let style =
        position.isMultiple(of: 2) || others.isEmpty
        ? .plain : others[position / 2 % others.count]
      return world(style).scene(Int(number % UInt64(Self.sceneCount))).caption
    }
  }

  /// Scenes of the plain style with combinations that are in no training caption.
  func heldOut(_ count: Int) -> [DemoScene] { world(.plain, .heldOut).scenes(0..<count) }

  /// Scenes of the plain style that training may draw.
  func training(_ count: Int) -> [DemoScene] { world(.plain).scenes(0..<count) }

  /// The text from which the vocabulary is learned: captions of every style, and other English, so
  /// that words outside of the small world are not spelled letter by letter.
  func vocabularySentences() -> [String] {
    DemoScene.Style.allCases.flatMap { world($0).scenes(0..<Self.vocabularyScenes).map(\.caption) }
      + TinyCaptions.sentences
  }
}
