/// What keeps a run from being recorded.
public struct TrackingError: Error, CustomStringConvertible, Equatable {
  /// The file or address, where there is one.
  public let place: String?
  public let problem: String
  public let remedy: String?

  public init(_ problem: String, at place: String? = nil, remedy: String? = nil) {
    self.place = place
    self.problem = problem
    self.remedy = remedy
  }

  public var description: String {
    (place.map { $0 + ": " } ?? "") + problem + (remedy.map { ". " + $0 } ?? "")
  }
}
