// Option values and defaults of `ltx launch`.

import ArgumentParser
import Foundation
import Support
import Torch
import Training

/// The number of processes on a machine.
enum ProcessCount: ExpressibleByArgument, Equatable {
  case number(Int)
  case auto, gpu, cpu

  init?(argument: String) {
    switch argument {
    case "auto": self = .auto
    case "gpu": self = .gpu
    case "cpu": self = .cpu
    default:
      guard let number = Int(argument) else { return nil }
      self = .number(number)
    }
  }

  /// - Throws: `Issue` for `gpu` without one.
  func count() throws -> (Int, usesGPUs: Bool) {
    switch self {
    case .number(let number): return (number, true)
    case .cpu: return (CoreShares.availableCores().count, false)
    case .auto:
      // Without CUDA, there are no GPUs.
      let gpus = (try? Device.cudaCount()) ?? 0
      return (max(gpus, 1), gpus > 0)
    case .gpu:
      let gpus = try Device.cudaCount()
      guard gpus > 0 else {
        throw Issue(["processesPerNode"], "is gpu, but this machine has no GPU that CUDA can use")
      }
      return (gpus, true)
    }
  }
}

/// `host` or `host:port`; an IPv6 address with a port is in brackets.
struct LaunchEndpoint {
  let host: String
  let port: Int?

  init(_ text: String) throws {
    let isAddress = text.filter { $0 == ":" }.count > 1 && !text.contains("]")
    guard !isAddress, let colon = text.lastIndex(of: ":"), text.last != "]" else {
      (host, port) = (text.filter { $0 != "[" && $0 != "]" }, nil)
      return
    }
    guard let number = Int(text[text.index(after: colon)...]), (1...65535).contains(number) else {
      throw Issue(["endpoint"], "has a port that is not between 1 and 65535 (got \(text))")
    }
    (host, port) = (text[..<colon].filter { $0 != "[" && $0 != "]" }, number)
  }
}

/// The options in the environment, under the names that Kubeflow Trainer gives them for torchrun.
struct LaunchDefaults {
  private let environment = ProcessInfo.processInfo.environment

  subscript(name: String) -> String? { environment["PET_\(name)"] }

  func number(_ name: String) throws -> Int? {
    guard let text = self[name] else { return nil }
    guard let number = Int(text) else {
      throw Issue([.name("PET_\(name)")], "must be a number in the environment (got \(text))")
    }
    return number
  }

  var processes: ProcessCount? {
    get throws {
      guard let text = self["NPROC_PER_NODE"] else { return nil }
      guard let count = ProcessCount(argument: text) else {
        throw Issue(
          [.name("PET_NPROC_PER_NODE")],
          "must be a number, auto, gpu or cpu in the environment (got \(text))")
      }
      return count
    }
  }

  /// - Parameter option: the value of `--nnodes`.
  /// - Returns: nil if neither the option nor the variable is given.
  /// - Throws: `Issue` for a range of machines.
  func nodes(_ option: String?) throws -> Int? {
    guard let text = option ?? self["NNODES"] else { return nil }
    let ends = text.split(separator: ":")
    guard let number = Int(ends.first ?? ""), ends.allSatisfy({ Int($0) == number }) else {
      throw Issue(
        ["nodes"], "must be one number (got \(text))",
        suggestion: "The number of machines can't change during a run.")
    }
    return number
  }
}
