/// An input of linear layers that a block's graph saves because a layer's adapter or weight is
/// trained. Layers that read the same tensor share it.
struct SavedInput: Hashable, Sendable {
  /// The sequence that the rows of an input come from.
  enum Rows: Hashable, Sendable {
    case tokens(Modality)
    /// The text that a modality attends to.
    case text(Modality)
  }

  /// Layers with the same name share the input.
  let name: String
  let rows: Rows
  let width: Int

  /// - Parameters:
  ///   - path: The path of a linear layer below a block: `attn1.to_q`.
  ///   - width: Its input features.
  init(ofLayer path: String, width: Int) {
    let parts = path.split(separator: ".").map(String.init)
    let module = parts.first ?? ""
    let layer = parts.dropFirst().joined(separator: ".")
    let isBetween = module.contains("_to_")
    // `audio_to_video_attn` updates the video.
    let own: Modality =
      (isBetween ? module.hasPrefix("video_to_audio") : module.hasPrefix("audio_"))
      ? .audio : .video
    let readsContext = layer == "to_k" || layer == "to_v"
    let isTextAttention = module.hasSuffix("attn2")
    self.width = width
    switch (readsContext, isBetween, isTextAttention) {
    case (true, true, _): (rows, name) = (.tokens(own.other), "\(module) context")
    case (true, false, true): (rows, name) = (.text(own), "\(module) context")
    default:
      rows = .tokens(own)
      let isLast = layer.hasPrefix("to_out") || layer == "net.2"
      name = "\(module) \(isLast ? "output" : "input")"
    }
  }

  /// The rows of a sample.
  func count(_ pass: PassSize) -> Int {
    switch rows {
    case .tokens(let modality): pass.tokens[modality] ?? 0
    case .text(let modality): pass.tokens[modality] == nil ? 0 : pass.textTokens
    }
  }
}
