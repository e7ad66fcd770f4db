import NN

/// The sizes of a vision tower, from `vision_config` of Qwen2.5-Omni or Qwen3-Omni.
public struct VisionConfiguration: Sendable {
  public let family: QwenOmniFamily
  /// The number of blocks.
  public let depth: Int
  public let width: Int
  public let feedForwardWidth: Int
  public let heads: Int
  /// The width of the language model's embeddings.
  public let outputWidth: Int
  /// The side of a patch, in pixels.
  public let patchSize: Int
  /// The side of the square of patches that become one token.
  public let mergeSize: Int
  /// The number of frames of a patch.
  public let framesPerPatch: Int
  /// Qwen2.5-Omni: the side of an attention window, in tokens.
  public let windowSize: Int
  /// Qwen2.5-Omni: the blocks that attend to the whole frame.
  public let fullAttentionBlocks: Set<Int>
  /// Qwen3-Omni: the side of the square table of positions.
  public let tableSize: Int
  /// Qwen3-Omni: the blocks whose outputs also go to the first layers of the language model.
  public let deepstackBlocks: [Int]

  /// The sides of an image are multiples of this number of pixels.
  public var factor: Int { patchSize * mergeSize }
  public var patchesPerToken: Int { mergeSize * mergeSize }
  /// The number of values of a patch: three channels, each with a square of every frame.
  public var patchWidth: Int { 3 * framesPerPatch * patchSize * patchSize }
  public var headWidth: Int { width / heads }

  /// - Throws: `Issue` for a value that is missing, of the wrong type, invalid, or not supported.
  public init(_ c: Configuration, family: QwenOmniFamily) throws {
    self.family = family
    depth = try c.positive("depth", upTo: Configuration.maxLayers)
    width = try c.positive("hidden_size")
    feedForwardWidth = try c.positive("intermediate_size")
    heads = try c.positive("num_heads", upTo: 4096)
    outputWidth = try c.positive("out_hidden_size")
    patchSize = try c.positive("patch_size", default: family == .qwen25 ? 14 : 16, upTo: 256)
    mergeSize = try c.positive("spatial_merge_size", default: 2, upTo: 16)
    framesPerPatch = try c.positive("temporal_patch_size", default: 2, upTo: 2)
    guard width.isMultiple(of: 4 * heads) else {
      throw c.error(
        "hidden_size",
        "is \(width), but \(heads) heads with positions in two dimensions need a multiple of "
          + "\(4 * heads)")
    }
    guard framesPerPatch == 2 else {
      throw c.error("temporal_patch_size", "is \(framesPerPatch); only 2 is supported")
    }
    for key in ["in_channels", "in_chans"] where c.has(key) {
      let channels = try c.positive(key)
      guard channels == 3 else { throw c.error(key, "is \(channels); only 3 is supported") }
    }
    let activation = family == .qwen25 ? "silu" : "gelu_pytorch_tanh"
    let found = try c.string("hidden_act", default: activation)
    guard found == activation else {
      throw c.error("hidden_act", "is \"\(found)\"; only \(activation) is supported")
    }
    switch family {
    case .qwen25:
      let window = try c.positive("window_size", default: 112)
      windowSize = window / (patchSize * mergeSize)
      guard windowSize > 0 else {
        throw c.error(
          "window_size",
          "is \(window), but a window holds at least one token of \(patchSize * mergeSize) pixels")
      }
      fullAttentionBlocks = Set(
        try c.ints("fullatt_block_indexes", default: [7, 15, 23, 31], in: 0...depth - 1))
      (tableSize, deepstackBlocks) = (0, [])
    case .qwen3:
      let positions = try c.positive("num_position_embeddings", default: 2304)
      tableSize = Int(Double(positions).squareRoot())
      guard tableSize * tableSize == positions else {
        throw c.error("num_position_embeddings", "is \(positions), which is not a square")
      }
      deepstackBlocks = try c.ints(
        "deepstack_visual_indexes", default: [8, 16, 24], in: 0...depth - 1)
      guard deepstackBlocks == Set(deepstackBlocks).sorted() else {
        throw c.error("deepstack_visual_indexes", "must be in ascending order, each block once")
      }
      (windowSize, fullAttentionBlocks) = (0, [])
    }
  }
}
