/// A clip of the small world: every parameter of its pixels, audio and caption.
public struct DemoScene: Sendable, Hashable, Codable {
  public enum Shape: String, CaseIterable, Codable, Sendable { case circle, square, triangle, star }
  public enum Color: String, CaseIterable, Codable, Sendable {
    case red, green, blue, yellow, purple, orange
  }
  /// Large shapes have low tones, small ones high tones.
  public enum Size: String, CaseIterable, Codable, Sendable { case small, large }
  public enum Direction: String, CaseIterable, Codable, Sendable { case left, right, up, down }
  public enum Background: String, CaseIterable, Codable, Sendable { case black, gray, navy, beige }
  /// `sketch`: outlines on paper, with a hollow timbre. `snow`: white flakes fall over the plain
  /// style, with a bell's timbre.
  public enum Style: String, CaseIterable, Codable, Sendable { case plain, sketch, snow }

  public var shape: Shape
  public var color: Color
  public var size: Size
  public var direction: Direction
  /// The color behind the shape; for sketches, the kind of paper.
  public var background: Background
  public var style: Style
  /// The seed of what the other parameters leave open: the exact path, rotation, speed, shades and
  /// the wording of the caption.
  public var seed: UInt64

  public init(
    shape: Shape, color: Color, size: Size, direction: Direction, background: Background,
    style: Style = .plain, seed: UInt64
  ) {
    self.shape = shape
    self.color = color
    self.size = size
    self.direction = direction
    self.background = background
    self.style = style
    self.seed = seed
  }
}

extension DemoScene {
  /// The side of a clip's square frames, in pixels.
  public static let side = 128
  /// The number of frames of a clip.
  public static let frameCount = 25
  /// The number of frames per second.
  public static let frameRate = 24
  /// The sample rate of the audio in files.
  public static let sampleRate = 48_000
  /// The length of a clip.
  public static let seconds = Double(frameCount) / Double(frameRate)
}

extension DemoScene.Style {
  /// The word that begins the captions of the style; nil for `plain`.
  public var triggerWord: String? {
    switch self {
    case .plain: nil
    case .sketch: "SKETCHSTYLE"
    case .snow: "SNOWSTYLE"
    }
  }
}

extension DemoScene {
  /// Whether a tone is low or high.
  public enum Register: String, CaseIterable, Codable, Sendable { case low, high }
  /// The change of a tone's pitch.
  public enum Contour: String, CaseIterable, Codable, Sendable { case rising, falling, steady }

  public var register: Register { size == .large ? .low : .high }

  public var contour: Contour {
    switch direction {
    case .up: .rising
    case .down: .falling
    case .left, .right: .steady
    }
  }
}
