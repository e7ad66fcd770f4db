// Option values that several subcommands share.

import ArgumentParser
import Torch

/// `FILE` or `FILE:STRENGTH`.
struct LoRAArgument: ExpressibleByArgument {
  let path: String
  let strength: Double

  init?(argument: String) {
    if let colon = argument.lastIndex(of: ":"),
      let strength = Double(argument[argument.index(after: colon)...])
    {
      path = String(argument[..<colon])
      self.strength = strength
    } else {
      path = argument
      strength = 1
    }
    if path.isEmpty { return nil }
  }
}

/// The element types that models compute in.
enum ComputeDType: String, ExpressibleByArgument, CaseIterable {
  case float32, bfloat16

  var dtype: DType { self == .float32 ? .float32 : .bfloat16 }
}

extension Device: ExpressibleByArgument {
  public init?(argument: String) {
    do { try self.init(argument) } catch { return nil }
  }
}
