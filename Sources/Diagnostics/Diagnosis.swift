import Torch

/// Checks of the machine: whether it has what training and generation need.
public struct Diagnosis {
  /// The device that has to work; nil to check all GPUs, of which there need not be one.
  public let device: Device?
  /// The folder that results would be written to.
  public let folder: String

  public init(device: Device? = nil, folder: String = ".") {
    (self.device, self.folder) = (device, folder)
  }

  /// Runs all checks, one after another.
  ///
  /// - Parameter report: Called with each check when it is complete.
  /// - Returns: Whether no check found a problem.
  @discardableResult
  public func run(report: (Check) -> Void) -> Bool {
    var works = true
    for checks in [
      // First, because CUDA can't be loaded after a computation on the CPU.
      { DeviceChecks(device).run() },
      { ProcessorChecks().run() },
      { MediaChecks().run() },
      { StorageChecks(folder).run() },
    ] as [() -> [Check]] {
      for check in checks() {
        report(check)
        if check.status == .problem { works = false }
      }
    }
    return works
  }
}
