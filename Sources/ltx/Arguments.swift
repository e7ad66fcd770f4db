// Option values that several subcommands share.

import ArgumentParser
import Datasets
import LTX
import LoRAFiles
import Media
import NN
import Support
import Torch

/// `FILE` or `FILE:STRENGTH`.
struct FileWithStrength: ExpressibleByArgument {
  let path: String
  /// Nil if the argument has no strength.
  let givenStrength: Double?
  var strength: Double { givenStrength ?? 1 }
  var lora: LoRARef { LoRARef(path: path, strength: strength) }

  init?(argument: String) {
    if let colon = argument.lastIndex(of: ":"),
      let strength = Double(argument[argument.index(after: colon)...])
    {
      path = String(argument[..<colon])
      givenStrength = strength
    } else {
      path = argument
      givenStrength = nil
    }
    if path.isEmpty { return nil }
  }
}

/// The dtypes that models compute in.
enum ComputeDType: String, ExpressibleByArgument, CaseIterable {
  case float32, bfloat16

  var dtype: DType { self == .float32 ? .float32 : .bfloat16 }
}

/// `--threads`: 1 to 1024. More threads than cores have no benefit.
struct ThreadCount: ExpressibleByArgument {
  let count: Int

  init?(argument: String) {
    guard let count = Int(argument), (1...1024).contains(count) else { return nil }
    self.count = count
  }

  func apply() { Threads.count = count }
}

/// The device that models compute on, and the number of threads.
struct ComputeOptions: ParsableArguments {
  @Option(
    name: .customLong("device"), help: "The device: cpu, cuda or cuda:N. (default: cpu)")
  var given: DeviceChoice?

  private var chosen: DeviceChoice { given ?? DeviceChoice(device: .cpu, hasIndex: false) }
  var device: Device { chosen.device }

  @Option(help: "The number of threads per operation. (default: all cores)")
  var threads: ThreadCount?

  /// Sets the number of threads and loads the device.
  ///
  /// Commands call this first: CUDA can't be used in a process that has computed on the CPU before
  /// it was loaded.
  func apply() throws {
    try checkingInput { try prepare() }
  }

  /// `apply` for callers that report errors themselves.
  func prepare() throws {
    try device.prepare()
    threads?.apply()
  }

  /// Refuses bfloat16 on a GPU that can't compute in it.
  ///
  /// - Parameters:
  ///   - dtype: the dtype that models compute in; nil for the default, bfloat16 on GPUs.
  ///   - remedy: the way to avoid it on this GPU, such as an option; nil without one.
  func require(_ dtype: ComputeDType?, remedy: String? = "use --dtype float32") throws {
    guard device != .cpu, dtype ?? .bfloat16 == .bfloat16 else { return }
    try checkingInput {
      guard let problem = try device.bfloat16Problem() else { return }
      let choices = ["Use another GPU", remedy, "set `device` to cpu"].compactMap { $0 }
      throw Issue(
        "models compute in bfloat16, but \(problem)",
        suggestion: choices.dropLast().joined(separator: ", ") + ", or \(choices.last ?? "").")
    }
  }

  /// The device of one of several processes: with `cuda`, each has a GPU of its own.
  ///
  /// - Throws: `Issue` for a machine with more processes than GPUs, or a numbered GPU for several
  ///   processes.
  func device(of ranks: ProcessRanks) throws -> Device {
    guard ranks.worldSize > 1, device != .cpu else { return device }
    guard chosen.hasIndex else { return try ranks.gpu() }
    if let count = ranks.localSize, count > 1, try Device.cudaCount() > 1 {
      throw Issue(
        ["device"], "is \(device), one GPU for all \(count) processes of this machine",
        suggestion: "Use cuda, which gives each its own.")
    }
    return device
  }
}

/// `--device`.
struct DeviceChoice: ExpressibleByArgument, CustomStringConvertible {
  let device: Device
  /// Whether the GPU's number was given.
  let hasIndex: Bool

  var description: String { hasIndex || device == .cpu ? "\(device)" : "cuda" }

  init(device: Device, hasIndex: Bool) { (self.device, self.hasIndex) = (device, hasIndex) }

  init?(argument: String) {
    do { device = try Device(argument) } catch { return nil }
    hasIndex = argument.contains(":")
  }
}

extension Device: ExpressibleByArgument {
  public init?(argument: String) {
    do { try self.init(argument) } catch { return nil }
  }
}

/// The use of the device's memory.
struct MemoryOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The device's memory to use, such as 24GB, or auto for what is free. Weights that don't fit are streamed. (default: auto on a GPU)",
      valueName: "size"))
  var memory: MemoryBudget?

  @Option(
    help: ArgumentHelp(
      "Where the weights of a model's blocks are while the block does not run: resident on the device, in host memory, or in the file. (default: what fits)",
      valueName: "place"))
  var weightPlacement: WeightPlacement?

  var settings: MemorySettings {
    MemorySettings(weightPlacement: weightPlacement, memory: memory)
  }
}

extension WeightPlacement: ExpressibleByArgument {
  /// Only training divides weights among processes.
  private static let forOneProcess: [WeightPlacement] = [.resident, .host, .file]

  public init?(argument: String) {
    guard let placement = WeightPlacement(rawValue: argument),
      Self.forOneProcess.contains(placement)
    else { return nil }
    self = placement
  }

  public static var allValueStrings: [String] { forOneProcess.map(\.rawValue) }
}

extension MemoryBudget: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}

/// A choice between `on` and `off`.
enum OnOff: String, ExpressibleByArgument, CaseIterable {
  case on, off
}

extension RGBColor: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}
