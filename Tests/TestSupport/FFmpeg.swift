import Foundation
import Testing

/// Runs FFmpeg's command line program, to create files that the libraries here don't write.
public func runFFmpeg(_ arguments: [String]) throws {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"] + arguments
  let errors = Pipe()
  process.standardError = errors
  try process.run()
  let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  try #require(process.terminationStatus == 0, "ffmpeg: \(text)")
}
