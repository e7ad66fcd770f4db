/// The instructions for a model.
public struct CaptionInstructions: Equatable, Sendable {
  /// The media of a clip.
  public enum Content: Equatable, Sendable {
    case video(hasAudio: Bool)
    case image
    case audio
  }

  /// The user's instruction, for all clips; nil for the defaults.
  public var custom: String?

  public init(custom: String? = nil) { self.custom = custom }

  public func text(for content: Content) -> String { custom ?? Self.standard(content) }

  /// The default instruction. A clip without audio is not asked for any, because models invent what
  /// they are asked for.
  public static func standard(_ content: Content) -> String {
    let request: [String]
    switch content {
    case .video(let hasAudio):
      request =
        [hasAudio ? Self.videoWithAudio : Self.silentVideo] + Self.seen
        + (hasAudio ? Self.heard : []) + [Self.videoRules]
    case .image: request = [Self.image] + Self.seen + [Self.imageRules]
    case .audio: request = [Self.audio] + Self.heard + [Self.audioRules]
    }
    return (request + [Self.form]).joined(separator: "\n\n")
  }

  private static let videoWithAudio = """
    Write one detailed caption of this video, of what is seen and of what is heard. A reader who \
    has only the caption should be able to picture every shot and imagine its sound. Mention small \
    objects, textures, minor movements and faint background sounds too.
    """

  private static let silentVideo = """
    Write one detailed caption of this video, which has no sound. A reader who has only the caption \
    should be able to picture every shot. Mention small objects, textures and minor movements too.
    """

  private static let image = """
    Write one detailed caption of this image. A reader who has only the caption should be able to \
    picture it. Mention small objects, textures and the background too.
    """

  private static let audio = """
    Write one detailed caption of this audio recording. A reader who has only the caption should be \
    able to imagine how it sounds. Mention faint background sounds too.
    """

  private static let seen = [
    """
    Cover the framing (from extreme wide shot to extreme close-up) and the angle; people's \
    appearance, clothes, posture and actions; the place with its materials, light and colors; and \
    any visible text, word for word.
    """
  ]

  private static let heard = [
    """
    Cover everything audible: speech, quoted word for word in its own language, and the tone of \
    voice; music, with its style, mood and changes of volume; noises of the surroundings. If nobody \
    speaks or no music plays, say so. Name instruments, styles and sounds only if they are really \
    there.
    """
  ]

  private static let videoRules = """
    Tell everything in the order in which it happens, shot by shot, with the movement of the camera \
    and the direction and speed of every movement. Only describe what can be seen or heard; don't \
    guess feelings, intentions or anything outside of the video. Refer to people by how they look, \
    such as "the woman in the green coat".
    """

  private static let imageRules = """
    Only describe what can be seen. Don't guess feelings or intentions, don't describe sounds or \
    movements, and don't mention what is absent. Refer to people by how they look, such as "the \
    woman in the green coat".
    """

  private static let audioRules = """
    Tell everything in the order in which it happens. Only describe what can be heard, and don't \
    guess what it may look like.
    """

  private static let form = """
    Begin with the first detail itself, not with words such as "The video shows" or "We see". Write \
    one paragraph of prose without headings, lists or labels.

    Answer with a JSON object that has exactly one key:

    {"\(CaptionAnswer.key)": "the caption"}
    """
}
