import LanguageModels
import TensorFiles
import Torch

/// The size of a video in pixels and pixel frames.
public struct VideoSize: Sendable, Hashable {
  public var width: Int
  public var height: Int
  public var frames: Int

  public init(width: Int, height: Int, frames: Int) {
    (self.width, self.height, self.frames) = (width, height, frames)
  }

  /// The largest tile of the video.
  func tile(_ tiling: Tiling?) -> VideoSize {
    VideoSize(
      width: min(width, tiling?.width?.size ?? width),
      height: min(height, tiling?.height?.size ?? height),
      frames: min(frames, tiling?.frames?.size ?? frames))
  }

  var pixels: Int { width * height * frames }
}

/// The predicted memory of components that run as a whole, from the headers of their files. The
/// numbers of elements per pixel are those of runs at real sizes on the pretend GPU.
extension Checkpoint {
  /// The elements per pixel of the largest intermediate results of the video VAE, in both
  /// directions.
  private static let videoElementsPerPixel = 57.0

  /// The bytes of the tensors whose keys start with one of the prefixes.
  private func weightBytes(_ prefixes: String..., dtype: DType?) -> Int {
    Self.weightBytes(prefixes, of: source, dtype: dtype)
  }

  private static func weightBytes(
    _ prefixes: [String], of source: any TensorSource, dtype: DType?
  ) -> Int {
    source.entries.reduce(0) { sum, entry in
      guard prefixes.contains(where: { entry.key.hasPrefix("\($0).") }) else { return sum }
      return sum + entry.value.shape.reduce(1, *) * (dtype ?? entry.value.dtype).size
    }
  }

  /// The bytes of the projection of text features, which is in memory beside the text encoder.
  ///
  /// - Parameter path: The text encoder's folder or file, which may hold the projection.
  /// - Throws: `Issue` or `TensorFileError` for a file that can't be read.
  func textProjectionBytes(textEncoder path: String, dtype: DType?) throws -> Int {
    let own = weightBytes(Prefix.textProjection, dtype: dtype)
    let files = try TextEncoderFiles(path: path)
    guard own == 0, files.isPacked else { return own }
    return try Self.weightBytes([Prefix.textProjection], of: files.weights(), dtype: dtype)
  }

  /// The bytes of the text connectors and their work on one prompt.
  public func textConnectorBytes(dtype: DType?) -> Int {
    let prefixes = Modality.allCases.map { "\(Prefix.transformer).\($0)_embeddings_connector" }
    return prefixes.reduce(0) { $0 + weightBytes($1, dtype: dtype) } * 21 / 20
  }

  /// The tiles in which a video is decoded by default.
  ///
  /// - Parameter limitBytes: The memory that tensors may take, weights included.
  /// - Throws: `Issue` for a configuration that isn't supported.
  public func recommendedTiling(for size: VideoSize, limitBytes: Int, dtype: DType) throws -> Tiling
  {
    let weights = weightBytes("\(Prefix.videoVAE).decoder", dtype: dtype)
    return try VideoVAEConfiguration.Decoder(config).recommendedTiling(
      for: size, limitBytes: limitBytes - weights, dtype: dtype)
  }

  /// The bytes of decoding a video.
  ///
  /// - Parameter tiling: The tiles; nil for the whole video at once.
  public func videoDecodingBytes(_ size: VideoSize, tiling: Tiling?, dtype: DType) -> Int {
    let weights = weightBytes(
      "\(Prefix.videoVAE).decoder", "\(Prefix.videoVAE).per_channel_statistics", dtype: dtype)
    // A file that can't be read is refused when the decoder is built.
    if case .diffusion(let decoder)? = try? VideoVAEConfiguration.Decoder(config) {
      return weights + decoder.decodingBytes(size, tiling: tiling, dtype: dtype)
    }
    let tile = size.tile(tiling)
    // Decoded frames of all tiles of a span of time, which may overlap with the span before.
    let group =
      tile == size ? 0 : 2 * 3 * size.width * size.height * tile.frames * dtype.size
    return weights + Int(Self.videoElementsPerPixel * Double(tile.pixels)) * dtype.size + group
  }

  /// The bytes of encoding clips.
  public func videoEncodingBytes(
    _ size: VideoSize, count: Int, tiling: Tiling?, dtype: DType
  ) -> Int {
    let weights = weightBytes(
      "\(Prefix.videoVAE).encoder", "\(Prefix.videoVAE).per_channel_statistics", dtype: dtype)
    let clips = tiling == nil ? 0 : 3 * size.pixels * count * dtype.size
    return weights + Int(Self.videoElementsPerPixel * Double(size.tile(tiling).pixels * count))
      * dtype.size + clips
  }
}
