/// The files of a model: a unified one with every component, or one for each component, as in
/// upstream and ComfyUI (ltx-pipelines, `utils/model_paths.py`).
public struct ModelFiles: Sendable, Equatable {
  /// A part of a model that can have its own file.
  public enum Component: String, Sendable, CaseIterable {
    /// Includes the text connectors, and usually the projection of text features.
    case transformer
    case videoVAE
    /// Includes the vocoder.
    case audioVAE
    case textEncoder
    /// LTX-2.5: predicts the length of a video from its prompt.
    case durationHead

    /// The component's name in messages.
    package var title: String {
      switch self {
      case .transformer: "transformer"
      case .videoVAE: "video VAE"
      case .audioVAE: "audio VAE"
      case .textEncoder: "text encoder"
      case .durationHead: "duration head"
      }
    }
  }

  /// The unified checkpoint; nil if each component has its own file.
  public var unified: String?
  /// The file of each component; a folder or a file for the text encoder. Beside a unified
  /// checkpoint, a component here replaces the one in it.
  private var components: [Component: String] = [:]

  /// A unified checkpoint, which never holds the text encoder.
  public init(
    unified: String, transformer: String? = nil, textEncoder: String? = nil,
    videoVAE: String? = nil, audioVAE: String? = nil, durationHead: String? = nil
  ) {
    self.unified = unified
    self[.transformer] = transformer == unified ? nil : transformer
    self[.textEncoder] = textEncoder
    self[.videoVAE] = videoVAE == unified ? nil : videoVAE
    self[.audioVAE] = audioVAE == unified ? nil : audioVAE
    self[.durationHead] = durationHead == unified ? nil : durationHead
  }

  /// A file for each component; components that are not needed can be omitted.
  public init(
    transformer: String? = nil, textEncoder: String? = nil, videoVAE: String? = nil,
    audioVAE: String? = nil, durationHead: String? = nil
  ) {
    self[.transformer] = transformer
    self[.textEncoder] = textEncoder
    self[.videoVAE] = videoVAE
    self[.audioVAE] = audioVAE
    self[.durationHead] = durationHead
  }

  /// The file of a component, if it has its own.
  public subscript(component: Component) -> String? {
    get { components[component] }
    set { components[component] = newValue }
  }

  public var textEncoder: String? { self[.textEncoder] }

  /// The file that a component is read from, its own or the unified one.
  public func path(of component: Component) -> String? {
    self[component] ?? (component == .textEncoder ? nil : unified)
  }

  /// The model's name in messages: the unified checkpoint, or the first given file.
  public var name: String {
    unified ?? Component.allCases.lazy.compactMap { components[$0] }.first ?? "the model"
  }

  /// All files except the text encoder's, each once, in a fixed order.
  public var checkpointFiles: [String] {
    [unified].compactMap { $0 }
      + Component.allCases.filter { $0 != .textEncoder }.compactMap { components[$0] }
  }
}
