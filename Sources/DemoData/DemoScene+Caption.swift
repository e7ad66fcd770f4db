extension DemoScene {
  /// A description in plain English. The words of the color, the shape and the direction always
  /// appear; size, background and tone usually do, and the size or the tone always does. The
  /// wording is a function of the parameters and the seed.
  public var caption: String {
    var random = DemoRandom(seed: seed, purpose: .caption)
    let text = CaptionWriter(self).text(&random)
    return style.triggerWord.map { "\($0). \(text)" } ?? text
  }

  /// The words for each shape, none of which is used for another one.
  public static func words(for shape: Shape) -> [String] {
    switch shape {
    case .circle: ["circle", "disc", "ball"]
    case .square: ["square", "box"]
    case .triangle: ["triangle"]
    case .star: ["star"]
    }
  }

  /// The phrases for each direction, none of which is used for another one.
  public static func phrases(for direction: Direction) -> [String] {
    switch direction {
    case .left: ["to the left", "leftward", "from right to left", "toward the left"]
    case .right: ["to the right", "rightward", "from left to right", "toward the right"]
    case .up: ["upward", "up", "from the bottom to the top", "toward the top"]
    case .down: ["downward", "down", "from the top to the bottom", "toward the bottom"]
    }
  }

  static func words(for size: Size) -> [String] {
    switch size {
    case .small: ["small", "little", "tiny"]
    case .large: ["large", "big", "huge"]
    }
  }

  /// Phrases for the tone, each with its article.
  static func phrases(for register: Register, _ contour: Contour) -> [String] {
    let level = register.rawValue
    let pitch = register == .low ? "deep" : "high-pitched"
    switch contour {
    case .rising:
      return [
        "a \(level) tone that rises", "a rising \(level) tone", "a \(pitch) tone sliding up",
        "a \(level) note that climbs", "a \(pitch) rising note",
      ]
    case .falling:
      return [
        "a \(level) tone that falls", "a falling \(level) tone", "a \(pitch) tone sliding down",
        "a \(level) note that sinks", "a \(pitch) falling note",
      ]
    case .steady:
      return [
        "a \(level) tone that stays steady", "a steady \(level) tone", "an even \(pitch) tone",
        "a \(level) note that holds its pitch", "a \(pitch) steady note",
      ]
    }
  }
}

/// Puts a caption together from phrases.
private struct CaptionWriter {
  private let scene: DemoScene

  init(_ scene: DemoScene) { self.scene = scene }

  func text(_ random: inout DemoRandom) -> String {
    let hasTone = random.happens(0.9)
    let hasSize = !hasTone || random.happens(0.9)
    let shape = random.word(DemoScene.words(for: scene.shape))
    let size = hasSize ? random.word(DemoScene.words(for: scene.size)) : nil
    // The first phrases are the most frequent ones.
    let direction = random.word(
      DemoScene.phrases(for: scene.direction) + DemoScene.phrases(for: scene.direction).prefix(2))
    let place = place(&random)
    let tone = hasTone ? random.word(DemoScene.phrases(for: scene.register, scene.contour)) : nil
    let words = Words(
      color: scene.color.rawValue, shape: shape, size: size, direction: direction, place: place)
    return Self.capitalized(sentences(words, tone, &random))
  }

  /// The background as a phrase; nil if it isn't mentioned.
  private func place(_ random: inout DemoRandom) -> String? {
    guard random.happens(0.88) else { return nil }
    guard scene.style != .sketch else { return random.word(["on paper", "on rough paper"]) }
    let color = scene.background.rawValue
    return random.word([
      "on a \(color) background", "against a \(color) background", "over a \(color) background",
      "in front of a \(color) background", "against a \(color) backdrop",
    ])
  }

  private struct Words {
    let color: String
    let shape: String
    let size: String?
    let direction: String
    let place: String?

    /// `large red circle`.
    var noun: String { (size.map { "\($0) " } ?? "") + "\(color) \(shape)" }
    /// The noun with its article.
    var subject: String { "\(color == "orange" && size == nil ? "an" : "a") \(noun)" }
    /// The background with a space before it, or nothing.
    var setting: String { place.map { " \($0)" } ?? "" }
  }

  private func sentences(_ words: Words, _ tone: String?, _ random: inout DemoRandom) -> String {
    let verbs = ["moves", "glides", "slides", "drifts", "travels", "floats"]
    let participles = ["moving", "gliding", "sliding", "drifting", "traveling", "floating"]
    let (verb, participle) = (random.word(verbs), random.word(participles))
    let (subject, direction, setting) = (words.subject, words.direction, words.setting)
    switch random.index(below: 8) {
    case 0:
      return "\(subject) \(verb) \(direction)\(setting)" + clause(tone, &random) + "."
    case 1:
      return "\(subject) \(verb) \(direction)\(setting)." + sentence(tone, &random)
    case 2:
      guard let place = words.place else { fallthrough }
      return "\(place), \(subject) \(verb) \(direction)" + clause(tone, &random) + "."
    case 3:
      return "a video of \(subject) \(participle) \(direction)\(setting)."
        + sentence(tone, &random)
    case 4:
      return "\(participle) \(direction), \(subject) crosses the frame\(setting)."
        + sentence(tone, &random)
    case 5:
      return "\(subject)\(setting), \(participle) \(direction)" + (tone.map { ", \($0)" } ?? "")
        + "."
    case 6:
      return "there is \(subject)\(setting). It \(verb) \(direction)." + sentence(tone, &random)
    default:
      return "the \(words.noun) is \(participle) \(direction)\(setting)" + clause(tone, &random)
        + "."
    }
  }

  /// The tone as the end of a sentence.
  private func clause(_ tone: String?, _ random: inout DemoRandom) -> String {
    guard let tone else { return "" }
    return random.word([
      " with \(tone)", ", and \(tone) is heard", " to the sound of \(tone)",
      ", accompanied by \(tone)",
    ])
  }

  /// The tone as a sentence of its own.
  private func sentence(_ tone: String?, _ random: inout DemoRandom) -> String {
    guard let tone else { return "" }
    return random.word([
      " We hear \(tone).", " The sound is \(tone).", " There is \(tone).",
      " Audio: \(tone).", " It comes with \(tone).",
    ])
  }

  private static func capitalized(_ text: String) -> String {
    text.prefix(1).uppercased() + text.dropFirst()
  }
}
