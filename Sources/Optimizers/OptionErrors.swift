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
