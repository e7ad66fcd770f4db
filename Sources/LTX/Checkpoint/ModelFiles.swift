/// The files that a model lies in: a unified one with every component, or one for each component,
/// as the reference and ComfyUI have them (ltx-pipelines, `utils/model_paths.py`).
public struct ModelFiles: Sendable, Equatable {
  /// A part of a model that can have a file of its own.
  public enum Component: String, Sendable, CaseIterable {
    /// With the text connectors, and mostly the projection of text features.
    case transformer
    case videoVAE
    /// With the vocoder.
    case audioVAE
    case textEncoder

    /// The option of `ltx` that names its file.
    public var option: String {
      switch self {
      case .transformer: "--transformer-path"
      case .videoVAE: "--video-vae-path"
      case .audioVAE: "--audio-vae-path"
      case .textEncoder: "--text-encoder-path"
      }
    }

    var title: String {
      switch self {
      case .transformer: "transformer"
      case .videoVAE: "video VAE"
      case .audioVAE: "audio VAE"
      case .textEncoder: "text encoder"
      }
    }
  }

  /// The unified checkpoint; nil where each component has its file.
  public var unified: String?
  /// A file each; a folder, for the text encoder. Beside a unified checkpoint, a transformer or VAE
  /// here takes the place of the one in it.
  private var components: [Component: String] = [:]

  /// A unified checkpoint, which never holds the text encoder.
  public init(
    unified: String, transformer: String? = nil, textEncoder: String? = nil,
    videoVAE: String? = nil,
    audioVAE: String? = nil
  ) {
    self.unified = unified
    self[.transformer] = transformer == unified ? nil : transformer
    self[.textEncoder] = textEncoder
    self[.videoVAE] = videoVAE == unified ? nil : videoVAE
    self[.audioVAE] = audioVAE == unified ? nil : audioVAE
  }

  /// A file for each component; what is not needed can be left out.
  public init(
    transformer: String? = nil, textEncoder: String? = nil, videoVAE: String? = nil,
    audioVAE: String? = nil
  ) {
    self[.transformer] = transformer
    self[.textEncoder] = textEncoder
    self[.videoVAE] = videoVAE
    self[.audioVAE] = audioVAE
  }

  /// The own file of a component.
  public subscript(component: Component) -> String? {
    get { components[component] }
    set { components[component] = newValue }
  }

  public var textEncoder: String? { self[.textEncoder] }

  /// The file that a component is read from, its own or the unified one.
  public func path(of component: Component) -> String? {
    self[component] ?? (component == .textEncoder ? nil : unified)
  }

  /// What stands for the model in messages: the unified checkpoint, or the first file that there
  /// is.
  public var name: String {
    unified ?? Component.allCases.lazy.compactMap { components[$0] }.first ?? "the model"
  }

  /// All files but the text encoder's, each once, in a fixed order.
  public var checkpointFiles: [String] {
    [unified].compactMap { $0 }
      + Component.allCases.filter { $0 != .textEncoder }.compactMap { components[$0] }
  }
}
