import Foundation
import Torch

/// What turns gradients into changes of parameters.
///
/// Gradients are handed over by the parameters' keys; a parameter without one is left as it is, with its state. Numbers
/// of a run are a function of the parameters, the state and the gradients: what `state` gives, `restore` takes, and
/// training goes on bit for bit.
public protocol Optimizer: AnyObject {
  /// In the order of the learning rates that `step` takes.
  var groups: [ParameterGroup] { get }

  /// Updates the parameters.
  ///
  /// - Parameters:
  ///   - gradients: by the parameters' keys, shaped as they are.
  ///   - learningRates: one a group.
  func step(_ gradients: [String: Tensor], learningRates: [Double]) throws

  /// All that a run needs to go on besides the parameters, under keys that begin with the parameters' own. The
  /// tensors are the optimiser's: a later step changes them.
  var state: [(key: String, tensor: Tensor)] { get throws }

  /// Continues from a stored state.
  ///
  /// - Parameter load: gives a tensor of the state by its key.
  func restore(_ load: (String) throws -> Tensor) throws
}

extension Optimizer {
  public var parameters: [Parameter] { groups.flatMap(\.parameters) }

  /// Bytes that the state's tensors take.
  public var stateBytes: Int {
    get throws { try state.reduce(0) { $0 + $1.tensor.byteCount } }
  }

  /// Updates the parameters, all at one learning rate.
  public func step(_ gradients: [String: Tensor], learningRate: Double) throws {
    try step(gradients, learningRates: groups.map { _ in learningRate })
  }

  /// Updates the parameters at each group's learning rate, changed as a schedule says.
  ///
  /// - Parameter number: of the step, from 0.
  public func step(_ gradients: [String: Tensor], schedule: LearningRateSchedule, at number: Int) throws {
    try step(
      gradients, learningRates: groups.map { schedule.learningRate(base: $0.learningRate, at: number) })
  }
}

/// Parameters that share a learning rate.
public struct ParameterGroup: Sendable {
  public let parameters: [Parameter]
  /// Before a schedule changes it.
  public let learningRate: Double

  public init(_ parameters: [Parameter], learningRate: Double) {
    self.parameters = parameters
    self.learningRate = learningRate
  }

  /// Groups by the modules that parameters are of.
  ///
  /// A pattern is one or more names with dots between them, and matches wherever these names follow each other in a
  /// parameter's key: `attn2`, `attn1.to_q`, `transformer_blocks.0`. `*`, `?` and `[…]` stand for characters of a name,
  /// as in a shell: `audio_*`. The first pattern that matches counts.
  ///
  /// - Parameters:
  ///   - learningRate: of parameters that no pattern matches.
  ///   - rates: learning rates by pattern.
  /// - Returns: the group of the unmatched parameters, if there are any, and one for each pattern.
  /// - Throws: `OptionErrors` that names each pattern which is the first to match no parameter.
  public static func groups(
    of parameters: [Parameter], learningRate: Double, rates: [(pattern: String, learningRate: Double)] = []
  ) throws(OptionErrors) -> [ParameterGroup] {
    var matched = [[Parameter]](repeating: [], count: rates.count)
    var others: [Parameter] = []
    for parameter in parameters {
      if let index = rates.firstIndex(where: { matches(parameter.key, $0.pattern) }) {
        matched[index].append(parameter)
      } else {
        others.append(parameter)
      }
    }
    let problems = zip(rates, matched).filter { $1.isEmpty }.map { rate, _ in
      OptionProblem(
        key: rate.pattern,
        problem: "matches no trained parameter that an earlier pattern has left; there are parameters like "
          + parameters.prefix(3).map(\.key).joined(separator: ", "))
    }
    if !problems.isEmpty { throw OptionErrors(problems) }
    return (others.isEmpty ? [] : [ParameterGroup(others, learningRate: learningRate)])
      + zip(rates, matched).map { ParameterGroup($1, learningRate: $0.learningRate) }
  }

  /// The parameters that have a gradient.
  func withGradients(_ gradients: [String: Tensor]) -> Batch {
    let indices = parameters.indices.filter { gradients[parameters[$0].key] != nil }
    return Batch(
      indices: indices, tensors: indices.map { parameters[$0].tensor },
      gradients: indices.compactMap { gradients[parameters[$0].key] })
  }

  /// Parameters of a group that take part in a step.
  struct Batch {
    /// In the group.
    let indices: [Int]
    let tensors: [Tensor]
    let gradients: [Tensor]
    var isEmpty: Bool { indices.isEmpty }
  }

  private static func matches(_ key: String, _ pattern: String) -> Bool {
    let names = key.split(separator: "."), wanted = pattern.split(separator: ".")
    guard !wanted.isEmpty, wanted.count <= names.count else { return false }
    return (0...names.count - wanted.count).contains { start in
      zip(names[start...], wanted).allSatisfy { fnmatch(String($1), String($0), 0) == 0 }
    }
  }
}

/// An option that can't be used, and why.
public struct OptionProblem: Error, CustomStringConvertible, Sendable, Equatable {
  public let key: String
  public let problem: String

  public init(key: String, problem: String) {
    self.key = key
    self.problem = problem
  }

  public var description: String { "\(key) \(problem)" }
}

/// All that is wrong with options, at least one thing.
public struct OptionErrors: Error, CustomStringConvertible, Sendable, Equatable {
  public let problems: [OptionProblem]

  public init(_ problems: [OptionProblem]) { self.problems = problems }

  public var description: String { problems.map(\.description).joined(separator: "\n") }
}
