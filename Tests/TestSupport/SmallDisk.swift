import Foundation
import Testing

/// A small file system in memory that fills up quickly. Mounting it requires root.
public final class SmallDisk {
  public let path: String
  private let scratch: ScratchFolder

  /// Whether it can be mounted here.
  public static let isPossible: Bool = {
    do {
      _ = try SmallDisk(kilobytes: 64)
      return true
    } catch {
      return false
    }
  }()

  public init(kilobytes: Int) throws {
    scratch = try ScratchFolder()
    path = scratch.file("disk")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try Self.run("mount", ["-t", "tmpfs", "-o", "size=\(kilobytes)k", "tmpfs", path])
  }

  deinit {
    do { try Self.run("umount", [path]) } catch { Issue.record("\(path) stays mounted: \(error)") }
  }

  public func files() -> [String] { scratch.files(below: "disk") }

  private struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private static func run(_ program: String, _ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    if process.terminationStatus != 0 { throw Failure(description: "\(program) failed") }
  }
}
