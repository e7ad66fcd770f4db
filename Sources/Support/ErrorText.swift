import Foundation

/// The system's message for an error number, without the number.
public func describe(errno code: Int32) -> String { String(cString: strerror(code)) }

/// One sentence for any error.
///
/// This project's errors describe themselves. Those of Foundation print as `Error Domain=…
/// UserInfo=…`; only their path and reason are kept.
public func describe(_ error: any Error) -> String {
  guard let info = foundationError(error)?.userInfo,
    let path = info[NSFilePathErrorKey] as? String ?? (info[NSURLErrorKey] as? URL)?.path
  else { return reason(of: error) }
  return "\(path): \(reason(of: error))"
}

/// The reason of an error alone, for a message that names the path itself.
public func reason(of error: any Error) -> String {
  if error is WritingError { return "\(error)" }
  if let code = errorNumber(of: error) { return describe(errno: code) }
  if let error = error as? DecodingError { return describe(error) }
  guard let error = foundationError(error) else { return "\(error)" }
  if let text = error.userInfo["NSDebugDescription"] as? String { return text }
  let text = error.localizedDescription
  let prefix = "The operation could not be completed. "
  return text.hasPrefix(prefix) ? String(text.dropFirst(prefix.count)) : text
}

/// The system's error code behind an error; nil if there isn't one.
public func errorNumber(of error: any Error) -> Int32? {
  if let error = error as? WritingError { return error.code }
  if let error = error as? POSIXError { return error.code.rawValue }
  guard let error = foundationError(error) else { return nil }
  if error.domain == NSPOSIXErrorDomain { return Int32(error.code) }
  return (error.userInfo[NSUnderlyingErrorKey] as? any Error).flatMap(errorNumber)
}

/// The error, if it comes from Foundation. (A cast to NSError alone succeeds for every error.)
private func foundationError(_ error: any Error) -> NSError? {
  error is CocoaError || type(of: error) is NSError.Type ? error as NSError : nil
}

private func describe(_ error: DecodingError) -> String {
  let context: DecodingError.Context
  switch error {
  case .dataCorrupted(let found), .keyNotFound(_, let found), .typeMismatch(_, let found),
    .valueNotFound(_, let found):
    context = found
  @unknown default: return "the data is not in the correct format"
  }
  let keys = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
  return (keys.isEmpty ? "" : keys.joined(separator: ".") + ": ") + context.debugDescription
}
