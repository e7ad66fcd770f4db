import NN
import Torch
public struct AudioEncoder: Sendable { public func callAsFunction(_ w: Tensor, sampleRate: Int) throws -> Tensor { w } }
public struct AudioDecoder: Sendable { public func callAsFunction(_ w: Tensor) throws -> Tensor { w } }
public struct Vocoder: Sendable { public func callAsFunction(_ w: Tensor) throws -> Tensor { try .zeros([1,2,4000]) }
 public let sampleRate = 24000 }
extension Checkpoint {
  public func audioEncoder(dtype: DType? = nil, device: Device = .cpu) throws -> AudioEncoder { AudioEncoder() }
  public func audioDecoder(dtype: DType? = nil, device: Device = .cpu) throws -> AudioDecoder { AudioDecoder() }
  public func vocoder(dtype: DType? = nil, device: Device = .cpu) throws -> Vocoder { Vocoder() }
}
