import Foundation
import TestSupport
import Testing

/// `Tools/tiny-ltx/check`, with which the demo begins.
@Suite struct TinyModelFileTests {
  private func check(_ folder: String) throws -> (status: Int32, errors: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "\(LearningRun.repository)/Tools/tiny-ltx/check")
    process.arguments = [folder]
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
  }

  private static let restore =
    "       Restore them with: git checkout -- Resources/tiny-ltx2\n"

  @Test func missingAndAlteredFilesAreNamed() throws {
    let scratch = try ScratchFolder()
    let none = try check(scratch.path)
    #expect(none.status == 1)
    #expect(
      none.errors == "error: checksums.txt is missing in \(scratch.path)\n\(Self.restore)")

    // The SHA-256 of "a" and of "b".
    try scratch.write(
      """
      ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  one.safetensors
      3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  gemma/two words.json

      """, to: "checksums.txt")
    try scratch.write("a", to: "one.safetensors")
    try scratch.write("b", to: "gemma/two words.json")
    let whole = try check(scratch.path)
    #expect(whole.status == 0 && whole.errors == "", "\(whole.errors)")

    try scratch.write("c", to: "gemma/two words.json")
    try FileManager.default.removeItem(atPath: scratch.file("one.safetensors"))
    let damaged = try check(scratch.path)
    #expect(damaged.status == 1)
    #expect(
      damaged.errors
        == "error: one.safetensors is missing\nerror: gemma/two words.json is altered\n\(Self.restore)"
    )
  }
}
