import Foundation
import Testing

@testable import Training

/// The template configurations.
@Suite struct ConfigurationTemplateTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Configs").path

  /// `ltx config init MODE > Configs/FILE` updates them.
  @Test(arguments: ConfigurationMode.allCases)
  func equalsTheFile(mode: ConfigurationMode) throws {
    #expect(
      try String(contentsOfFile: "\(Self.folder)/\(mode.fileName)", encoding: .utf8)
        == mode.template)
  }

  @Test func everyFileIsOfAMode() throws {
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder).filter {
      $0.hasSuffix(".yaml")
    }
    #expect(files.sorted() == ConfigurationMode.allCases.map(\.fileName).sorted())
  }

  /// Only the paths are missing, and the folders in the comments are those that the strategy reads.
  @Test(arguments: ConfigurationMode.allCases)
  func reads(mode: ConfigurationMode) throws {
    let c = try ConfigurationText.read(mode.template)
    #expect(c.notices.isEmpty)
    // The official trainer can read it.
    #expect(extensions(c.written).isDisjoint(with: c.source.places.keys))
    #expect(Set(c.trainingStrategy.dataSources.map(\.folder)) == Set(mode.folders.map(\.name)))
    #expect((c.lora == nil) == (mode == .full))
    #expect(c.validation.samples.count == 1)
    guard case .flexible(let strategy) = c.trainingStrategy else {
      Issue.record("\(c.trainingStrategy)")
      return
    }
    #expect(c.validation.generateVideo == (strategy.modalities.video?.isGenerated == true))
    #expect(c.validation.generateAudio == (strategy.modalities.audio?.isGenerated == true))
    // Samples have the conditions of training.
    let given = Set(c.validation.samples[0].conditions.map(\.validationType))
    let trained = Set(
      strategy.modalities.values().flatMap(\.conditions).map(\.type))
    switch mode {
    case .a2v:
      #expect(given == ["audio_to_video"] && strategy.modalities.audio?.isGenerated == false)
    case .v2a:
      #expect(given == ["video_to_audio"] && strategy.modalities.video?.isGenerated == false)
    case .v2vIC: #expect(given == ["reference"] && trained == ["reference", "first_frame"])
    default: #expect(given == trained)
    }
    #expect(ConfigurationText.awkwardLines(mode.template).isEmpty)
  }

  /// The keys that the official trainer lacks.
  private func extensions(_ value: ConfigurationValue, _ path: String = "") -> Set<String> {
    guard case .mapping(let entries) = value else { return [] }
    return entries.reduce(into: []) { keys, entry in
      let key = path.isEmpty ? entry.key : "\(path).\(entry.key)"
      if entry.isExtension { keys.insert(key) }
      keys.formUnion(extensions(entry.value, key))
    }
  }
}
