import Foundation
import Support
import Torch

/// Checks the processor and the host's memory.
struct ProcessorChecks {
  func run() -> [Check] { [processor, memory] }

  private var processor: Check {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let name = Self.value(of: "model name", in: text) ?? "a processor without a name"
    let flags = Set((Self.value(of: "flags", in: text) ?? "").split(separator: " "))
    let instructions = LibTorch.vectorInstructions
    let units = [("avx512_bf16", "AVX-512"), ("amx_bf16", "AMX")].filter {
      flags.contains(Substring($0.0))
    }
    .map(\.1)
    let cores = ProcessInfo.processInfo.activeProcessorCount
    let isSlow = instructions == "DEFAULT"
    var facts = "\(name), \(cores) \(cores == 1 ? "core" : "cores")"
    if !instructions.isEmpty {
      facts += isSlow ? ", no vector instructions that libtorch uses" : ", \(instructions)"
    }
    facts +=
      units.isEmpty ? ", no bfloat16 units" : ", bfloat16 units (\(units.joined(separator: ", ")))"
    return Check(
      "processor", isSlow ? .note : .ok, facts,
      remedy: isSlow
        ? "Computing on this processor is slow. In a virtual machine, pass on the host's processor"
        : nil,
      values: [
        "processor": .string(name), "cores": JSON(cores),
        "vector_instructions": .string(instructions), "bfloat16": .bool(!units.isEmpty),
      ])
  }

  private var memory: Check {
    guard let memory = HostMemory() else {
      return Check("memory", .note, "the system does not say how much memory there is")
    }
    let (available, total) = (memory.availableBytes, memory.totalBytes)
    let limit = memory.limitBytes
    var facts = "\(gigabytes(available)) of \(gigabytes(total)) available"
    if let limit { facts += ", of which this container may use \(gigabytes(limit))" }
    return Check(
      "memory", .ok, facts,
      values: [
        "available_bytes": JSON(available), "total_bytes": JSON(total),
        "limit_bytes": limit.map { JSON($0) } ?? .null,
      ])
  }

  /// The value of the first line `key : value`.
  static func value(of key: String, in text: String) -> String? {
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":"),
        line[..<colon].trimmingCharacters(in: .whitespaces) == key
      else { continue }
      return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    return nil
  }
}
