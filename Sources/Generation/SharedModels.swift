import LTX
import Torch

/// The models that successive generations share: a transformer that is already loaded, such as one
/// in training, and decoders, which are loaded when first needed and freed with this object.
public final class SharedModels {
  public let transformer: Transformer
  /// Mixed precision: the transformer runs under autocast to this dtype, as in training; nil for
  /// none.
  public let autocast: DType?
  private var video: VideoDecoder?
  private var audio: AudioDecoder?
  private var loadedVocoder: Vocoder?

  public init(transformer: Transformer, autocast: DType? = nil) {
    self.transformer = transformer
    self.autocast = autocast
  }

  /// Frees the decoders; they are loaded again when needed.
  public func freeDecoders() { (video, audio, loadedVocoder) = (nil, nil, nil) }

  func videoDecoder(_ load: () throws -> VideoDecoder) throws -> VideoDecoder {
    let decoder = try video ?? load()
    video = decoder
    return decoder
  }

  func audioDecoder(_ load: () throws -> AudioDecoder) throws -> AudioDecoder {
    let decoder = try audio ?? load()
    audio = decoder
    return decoder
  }

  func vocoder(_ load: () throws -> Vocoder) throws -> Vocoder {
    let vocoder = try loadedVocoder ?? load()
    loadedVocoder = vocoder
    return vocoder
  }
}
