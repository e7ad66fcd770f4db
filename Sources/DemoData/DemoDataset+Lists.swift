import Foundation
import Support

extension DemoDataset {
  /// The number of held-out scenes in the list for evaluation.
  public static let heldOutCount = 48

  /// The contents of the files that describe the clips, by name.
  var lists: [(name: String, content: JSON)] {
    var lists = [
      (name: Self.datasetName, content: JSON.array(clips.map(Self.row))),
      (name: Self.scenesName, content: JSON.array(clips.map(Self.parameters))),
    ]
    if world.part == .training {
      let heldOut = DemoWorld(seed: world.seed, style: world.style, part: .heldOut)
      lists.append(
        (
          name: Self.heldOutName,
          content: .array(heldOut.scenes(0..<Self.heldOutCount).map { Self.parameters(of: $0) })
        ))
    }
    return lists
  }

  private static func row(of clip: Clip) -> JSON {
    ["caption": .string(clip.scene.caption), "media_path": .string(clip.mediaPath)]
  }

  private static func parameters(of clip: Clip) -> JSON {
    var members: JSONObject = ["media_path": .string(clip.mediaPath)]
    for member in parameters(of: clip.scene).object ?? [:] { members[member.key] = member.value }
    return .object(members)
  }

  private static func parameters(of scene: DemoScene) -> JSON {
    [
      "caption": .string(scene.caption), "shape": .string(scene.shape.rawValue),
      "color": .string(scene.color.rawValue), "size": .string(scene.size.rawValue),
      "direction": .string(scene.direction.rawValue),
      "background": .string(scene.background.rawValue), "style": .string(scene.style.rawValue),
      "seed": JSON(scene.seed),
    ]
  }

  /// Reads the scenes of `scenes.json` or `held-out.json`.
  ///
  /// - Throws: `Issue` for a file that can't be read or has other content.
  public static func readScenes(path: String) throws -> [DemoScene] {
    do {
      return try JSON.decode([DemoScene].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Issue(
        [.file(path)], "is not a list of scenes (\(describe(error)))",
        suggestion: "Write it again with `ltx demo-data`.")
    }
  }
}
