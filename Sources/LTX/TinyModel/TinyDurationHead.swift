/// A small random duration head in the published layout.
struct TinyDurationHead {
  /// The widths of the contexts.
  var contextWidths: PerModality<Int>
  var width = 32
  var queries = 2
  var heads = 4
  var hiddenWidth = 24

  /// A head for the contexts of a transformer.
  init(_ transformer: TinyTransformer) {
    contextWidths = PerModality(video: transformer.width, audio: transformer.audioWidth)
  }

  /// Draws all tensors below `duration_head`. The predicted lengths are of the order of seconds.
  func draw(_ w: RandomWeights) throws {
    for (modality, inputs) in contextWidths.pairs {
      try (w / "\(modality)_input_proj").linear(inputs, width)
      try w.normal("\(modality)_modality_emb", [width], deviation: 0.1)
    }
    let pooler = w / "attention_pooler"
    try pooler.normal("query_tokens", [queries, width], deviation: 1)
    let attention = pooler / "cross_attn"
    try attention.normal(
      "in_proj_weight", [3 * width, width], deviation: 1 / Double(width).squareRoot())
    try attention.normal("in_proj_bias", [3 * width], deviation: 0.1)
    try (attention / "out_proj").linear(width, width)
    try (w / "mlp_hidden").linear(queries * width, hiddenWidth)
    try (w / "mlp_out").linear(hiddenWidth, 1)
  }

  /// The value of `config.duration_head`.
  var config: String {
    """
    {
      "pooler_hidden_dim": \(width),
      "num_queries": \(queries),
      "num_pooler_heads": \(heads),
      "mlp_hidden": \(hiddenWidth)
    }
    """
  }

  /// The part of `config.transformer` that the file of a head alone has.
  var transformerConfig: String {
    """
    {
      "cross_attention_dim": \(contextWidths.video),
      "audio_cross_attention_dim": \(contextWidths.audio)
    }
    """
  }
}
