import NN

/// The rates of a device and its host that decide between plans.
public struct DeviceRates: Sendable, Equatable, Codable {
  /// Copies from page-locked memory to the device, in bytes per second.
  public var upload: Double
  /// Large matrix products in bfloat16, in operations per second.
  public var products: Double
  /// The seconds that the host takes to queue one small operation.
  public var launch: Double

  public init(upload: Double, products: Double, launch: Double) {
    (self.upload, self.products, self.launch) = (upload, products, launch)
  }
}

/// The resources of a machine that a plan may use.
public struct MachineResources: Sendable, Equatable {
  /// The memory of the device for tensors.
  public var deviceBytes: Int
  /// The host memory that page-locked weights may take.
  public var hostBytes: Int
  public var rates: DeviceRates
  /// The rate at which the host can read the file of the checkpoint, in bytes per second.
  public var readRate: Double

  public init(deviceBytes: Int, hostBytes: Int, rates: DeviceRates, readRate: Double) {
    self.deviceBytes = deviceBytes
    self.hostBytes = hostBytes
    self.rates = rates
    self.readRate = readRate
  }

  /// Memory without limits, and rates that let all plans take the same time.
  public static let unlimited = MachineResources(
    deviceBytes: .max, hostBytes: .max,
    rates: DeviceRates(upload: .infinity, products: .infinity, launch: 0), readRate: .infinity)

  /// The part of the rate of products that a block reaches: steps on CPUs reach 0.41 to 0.49
  /// (docs/benchmarks.md).
  static let utilization = 0.5

  /// The rate of copies of weights to the device, in bytes per second.
  func rate(of placement: WeightPlacement) -> Double {
    placement == .file ? min(readRate, rates.upload) : rates.upload
  }

  /// The seconds of queued operations: those of the device, or of the host if it takes longer.
  func seconds(operations: Double, launches: Double) -> Double {
    max(operations / (rates.products * Self.utilization), launches * rates.launch)
  }
}
