import Foundation

/// Paths written for a program that expands or translates them. Nothing here does, so using such a
/// path would create a folder called `$HOME` or `C:\runs`.
public enum PathSyntax {
  /// The problem with a path and the remedy, to be read after the path; nil for a path that can be
  /// used, or that exists.
  ///
  /// - Parameter isOutput: Whether something is to be created there, which isn't possible at a URL.
  public static func problem(
    _ path: String, isOutput: Bool = true,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String? {
    var status = stat()
    guard lstat(path, &status) != 0 else { return nil }
    if path.hasPrefix("~") {
      let home = NSString(string: path).expandingTildeInPath
      let advice = home == path ? "the path of the home folder" : home
      return "begins with ~, which only a shell expands. Write \(advice)"
    }
    if let windows = windowsProblem(path) { return windows }
    if isOutput, let colon = path.range(of: "://"), isScheme(path[..<colon.lowerBound]) {
      let local =
        path.hasPrefix("file:///")
        ? String(path.dropFirst("file://".count)) : "the path of a local folder"
      return "is a URL. Write \(local)"
    }
    return variableProblem(path, environment)
  }

  private static func isScheme(_ text: Substring) -> Bool {
    text.count > 1
      && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) }
  }

  private static func windowsProblem(_ path: String) -> String? {
    let start = Array(path.unicodeScalars.prefix(3))
    let isDrive =
      start.count > 1 && start[1] == ":" && start[0].isASCII && start[0].properties.isAlphabetic
      && (start.count == 2 || start[2] == "\\" || start[2] == "/")
    guard isDrive || path.contains("\\") else { return nil }
    let slashes = path.replacingOccurrences(of: "\\", with: "/")
    guard isDrive else { return "has the backslashes of a Windows path. Write \(slashes)" }
    let rest = slashes.dropFirst(2).drop { $0 == "/" }
    return
      "is a Windows path. Write it as this system sees it, such as /mnt/\(slashes.prefix(1).lowercased())/\(rest)"
  }

  private static func variableProblem(_ path: String, _ environment: [String: String]) -> String? {
    var expanded = ""
    var first: Substring?
    var isKnown = true
    var rest = Substring(path)
    while let dollar = rest.firstIndex(of: "$") {
      expanded += rest[..<dollar]
      let after = rest[rest.index(after: dollar)...]
      let isBraced = after.first == "{"
      let name = after.dropFirst(isBraced ? 1 : 0).prefix {
        $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_")
      }
      let isClosed = !isBraced || after.dropFirst(1 + name.count).first == "}"
      guard let letter = name.first, !letter.isNumber, isClosed else {
        expanded += "$"
        rest = after
        continue
      }
      first = first ?? name
      if let value = environment[String(name)] { expanded += value } else { isKnown = false }
      rest = after.dropFirst(name.count + (isBraced ? 2 : 0))
    }
    guard let first else { return nil }
    let advice = isKnown ? expanded + rest : "the path without variables"
    return "has the variable $\(first), which is not expanded here. Write \(advice)"
  }
}

/// Returns whether a path leads to a folder; links are followed.
public func isFolder(_ path: String) -> Bool {
  var isFolder: ObjCBool = false
  return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
}

/// Returns whether a path leads to something that exists and is not a folder; links are followed.
public func isFile(_ path: String) -> Bool {
  var isFolder: ObjCBool = false
  return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
}

/// Creates a folder and its missing parents.
///
/// - Parameter failure: makes the error that is thrown from the system's.
public func makeFolder<Failure: Error>(
  _ path: String, orThrow failure: (any Error) -> Failure
) throws(Failure) {
  do {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  } catch {
    throw failure(error)
  }
}

/// Creates a folder and its missing parents.
///
/// - Throws: `WritingError` with the reason.
public func makeFolder(_ path: String) throws(WritingError) {
  try makeFolder(path) { WritingError(path: path, $0) }
}

/// Creates the folder of a file and its missing parents.
///
/// - Throws: `WritingError` with the reason.
public func makeFolder(of file: String) throws(WritingError) {
  let folder = (file as NSString).deletingLastPathComponent
  if !folder.isEmpty { try makeFolder(folder) }
}
