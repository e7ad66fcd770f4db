import Synchronization
import Torch

/// Tensors as models took them from files - converted, moved to a device - so that another model
/// built from the same files shares them instead of loading them again. They stay in memory for as
/// long as this object does.
public final class LoadedTensors: Sendable {
  private struct Key: Hashable {
    let file: String
    let key: String
    let dtype: DType?
    let device: Device
  }

  private let tensors = Mutex<[Key: Tensor]>([:])

  public init() {}

  /// The tensor that was loaded under this name, or else what `read` returns, from now on.
  public func tensor(
    _ key: String, of file: String, dtype: DType?, device: Device, _ read: () throws -> Tensor
  ) throws -> Tensor {
    let name = Key(file: file, key: key, dtype: dtype, device: device)
    if let loaded = tensors.withLock({ $0[name] }) { return loaded }
    let tensor = try read()
    // Of two that were read at the same time, one is kept.
    return tensors.withLock { tensors in
      tensors[name] = tensors[name] ?? tensor
      return tensors[name] ?? tensor
    }
  }
}
