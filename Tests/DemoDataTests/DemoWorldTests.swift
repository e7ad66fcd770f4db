import DemoData
import Testing

@Suite struct DemoWorldTests {
  @Test func scenesAreAFunctionOfTheSeedAndTheNumber() {
    let world = DemoWorld(seed: 5)
    #expect(world.scene(17) == DemoWorld(seed: 5).scene(17))
    #expect(world.scenes(10..<20)[7] == world.scene(17))
    #expect(world.scene(17) != world.scene(18))
    #expect(world.scene(17) != DemoWorld(seed: 6).scene(17))
    #expect(Set(world.scenes(0..<500)).count == 500)
    var sketch = DemoWorld(seed: 5, style: .sketch).scene(17)
    #expect(sketch.style == .sketch)
    sketch.style = .plain
    #expect(sketch == world.scene(17))
  }

  /// One combination in eight is held out, and the two parts share none.
  @Test func heldOutCombinationsAreNeverDrawnForTraining() {
    let training = DemoWorld(seed: 1).scenes(0..<3000)
    let heldOut = DemoWorld(seed: 1, part: .heldOut).scenes(0..<600)
    #expect(training.allSatisfy { !$0.isHeldOut })
    #expect(heldOut.allSatisfy { $0.isHeldOut })
    #expect(Set(training.map(Self.combination)).count == 168)
    #expect(Set(heldOut.map(Self.combination)).count == 24)
  }

  private static func combination(_ scene: DemoScene) -> [String] {
    [
      scene.color.rawValue, scene.shape.rawValue, scene.direction.rawValue, scene.size.rawValue,
    ]
  }

  @Test(arguments: DemoWorld.Part.allCases)
  func everyValueIsDrawn(part: DemoWorld.Part) {
    let scenes = DemoWorld(seed: 2, part: part).scenes(0..<1200)
    #expect(
      DemoScene.Color.allCases.allSatisfy { color in scenes.count { $0.color == color } > 90 })
    #expect(
      DemoScene.Shape.allCases.allSatisfy { shape in scenes.count { $0.shape == shape } > 160 })
    #expect(
      DemoScene.Direction.allCases.allSatisfy { direction in
        scenes.count { $0.direction == direction } > 160
      })
    #expect(DemoScene.Size.allCases.allSatisfy { size in scenes.count { $0.size == size } > 400 })
    #expect(
      DemoScene.Background.allCases.allSatisfy { background in
        scenes.count { $0.background == background } > 200
      })
  }

  @Test(arguments: DemoScene.Style.allCases)
  func captionsHaveTheWords(style: DemoScene.Style) {
    let scenes = DemoWorld(seed: 4, style: style).scenes(0..<1500)
    var counts = (size: 0, background: 0, tone: 0)
    for scene in scenes {
      let caption = scene.caption
      let words = Set(caption.lowercased().split { !$0.isLetter && $0 != "-" }.map(String.init))
      #expect(caption == scene.caption)
      #expect(words.contains(scene.color.rawValue), "\(caption)")
      for color in DemoScene.Color.allCases where color != scene.color {
        #expect(!words.contains(color.rawValue), "\(caption)")
      }
      for shape in DemoScene.Shape.allCases {
        let isNamed = DemoScene.words(for: shape).contains { words.contains($0) }
        #expect(isNamed == (shape == scene.shape), "\(caption)")
      }
      let named = DemoScene.phrases(for: scene.direction).contains {
        caption.lowercased().contains($0)
      }
      #expect(named, "\(caption)")
      #expect(caption.hasPrefix(style.triggerWord ?? ""), "\(caption)")
      #expect(caption.hasSuffix("."), "\(caption)")
      #expect(!caption.contains("  ") && !caption.contains(".."), "\(caption)")
      let hasSize = !words.isDisjoint(with: ["small", "little", "tiny", "large", "big", "huge"])
      let hasTone = !words.isDisjoint(with: ["tone", "note"])
      #expect(hasSize || hasTone, "\(caption)")
      counts.size += hasSize ? 1 : 0
      counts.tone += hasTone ? 1 : 0
      counts.background += words.contains(scene.background.rawValue) ? 1 : 0
    }
    #expect(counts.size > 1200 && counts.tone > 1200)
    #expect(style == .sketch ? counts.background == 0 : counts.background > 1200)
    #expect(Set(scenes.map(\.caption)).count > 1000)
  }
}
