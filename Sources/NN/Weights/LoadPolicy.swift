import Synchronization
import Torch

/// The policy for loading the weights of a checkpoint. Models don't know the policy: their code is
/// the same for all of them.
public struct LoadPolicy: Sendable {
  /// The dtype that floating-point tensors are converted to; nil keeps each in the file's dtype,
  /// and reads nothing from the disk before it is used.
  public var dtype: DType?
  public var device: Device
  /// Trained adapters, by the path of the module that they modify.
  public var adapters: AdapterSet
  /// New adapters to train, for each linear layer that they match.
  public var freshAdapters: FreshAdapters?
  /// The tensors of the model that are trained.
  public var trained: TrainedWeights?
  /// The storage of linear layers' weights in memory.
  public var storage: WeightStorage
  /// Tensors that other models have loaded from the same files, to share them.
  public var loaded: LoadedTensors?
  /// The locations of the frozen weights of a stack's blocks.
  public var placements: WeightPlacements
  /// The ranks that sharded weights are divided among.
  public var ranks = ProcessGroup.single
  /// The dtype in which trained matrices that are divided among the ranks are gathered: that of
  /// matrix products. Nil for the dtype of the parts.
  public var gatheredDType: DType?
  /// Whether models are built only for inspection. Tensors are not read from the disk, and tensors
  /// that no layer uses are not an error.
  public var isInspected: Bool

  public init(
    dtype: DType? = nil, device: Device = .cpu, adapters: AdapterSet = AdapterSet(),
    freshAdapters: FreshAdapters? = nil, trained: TrainedWeights? = nil,
    storage: WeightStorage = .asStored, loaded: LoadedTensors? = nil,
    placements: WeightPlacements = .resident, isInspected: Bool = false
  ) {
    self.dtype = dtype
    self.device = device
    self.adapters = adapters
    self.freshAdapters = freshAdapters
    self.trained = trained
    self.storage = storage
    self.loaded = loaded
    self.placements = placements
    self.isInspected = isInspected
  }

  /// The same policy without training some tensors and layers, given by their keys and paths.
  public func excludingFromTraining(_ isExcluded: @escaping @Sendable (String) -> Bool)
    -> LoadPolicy
  {
    var copy = self
    copy.freshAdapters = freshAdapters?.excluding(isExcluded)
    copy.trained = trained?.excluding(isExcluded)
    return copy
  }
}

/// Tensors that models have loaded from files, converted and moved to a device. Another model that
/// is built from the same files shares them. They stay in memory as long as this object.
public final class LoadedTensors: Sendable {
  private struct Key: Hashable {
    let file: String
    let key: String
    let dtype: DType?
    let device: Device
  }

  private let tensors = Mutex<[Key: Tensor]>([:])

  public init() {}

  /// Returns the tensor that was loaded under this name. If there isn't one, `read` loads it.
  public func tensor(
    _ key: String, of file: String, dtype: DType?, device: Device, _ read: () throws -> Tensor
  ) throws -> Tensor {
    let name = Key(file: file, key: key, dtype: dtype, device: device)
    if let loaded = tensors.withLock({ $0[name] }) { return loaded }
    let tensor = try read()
    // If two threads loaded it at the same time, one tensor is kept.
    return tensors.withLock { tensors in
      tensors[name] = tensors[name] ?? tensor
      return tensors[name] ?? tensor
    }
  }
}
