import Foundation
import LTX
import TensorFiles
import Testing

/// Interrupted commands leave no files behind.
@Suite(.serialized) struct InterruptionTests {
  /// A checkpoint that takes a while to copy: the tiny one with a large tensor of zeros, stored as
  /// a sparse file.
  private func largeCheckpoint(_ place: Workshop, _ model: String) throws -> String {
    let data = try Data(contentsOf: URL(fileURLWithPath: model), options: .mappedIfSafe)
    let headerSize = Int(
      data.prefix(8).enumerated().reduce(UInt64(0)) {
        $0 | UInt64($1.element) << (8 * UInt64($1.offset))
      })
    let content = data.count - 8 - headerSize
    let size = 300 << 20
    var header = String(decoding: data[8..<(8 + headerSize)], as: UTF8.self).trimmingCharacters(
      in: .whitespaces)
    header =
      header.dropLast()
      + #","vae.zeros":{"dtype":"U8","shape":[\#(size)],"data_offsets":[\#(content),\#(content + size)]}}"#
    header += String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
    var bytes =
      withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8)
    bytes += data[(8 + headerSize)...]
    let path = "\(place.path)/large.safetensors"
    try bytes.write(to: URL(fileURLWithPath: path))
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    try file.truncate(atOffset: UInt64(bytes.count + size))
    try file.close()
    return path
  }

  private func partial(_ place: Workshop) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: place.path)) ?? []).filter {
      $0.hasSuffix(".partial") || $0.hasSuffix(".lock")
    }
  }

  @Test func aMergeThatIsStoppedLeavesNothingAndTheNextOneRemovesWhatAKillLeft()
    throws
  {
    let place = try Workshop()
    #expect(try Program.run(["tiny-model", "m"], in: place.path).status == 0)
    let large = try largeCheckpoint(place, "\(place.path)/m/\(TinyModel.checkpointName)")
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(place.path)/m")
    let lora = try #require(names.first { $0.contains("lora") })
    let arguments = ["lora", "merge", "m/\(lora)", "--into", large, "--output", "out.safetensors"]
    func isUnfinished(_ name: String) -> Bool {
      name.hasPrefix(".out.safetensors.ltx-") && name.hasSuffix(".partial")
    }
    /// Sends a signal while the output is being written. A merge that finished too early is
    /// repeated.
    func stop(by number: Int32) throws -> Process {
      for _ in 0..<30 {
        let process = try Program.start(arguments, in: place.path)
        while process.isRunning, !partial(place).contains(where: isUnfinished) { usleep(500) }
        kill(process.processIdentifier, number)
        process.waitUntilExit()
        let output = "\(place.path)/out.safetensors"
        guard FileManager.default.fileExists(atPath: output) else { return process }
        try FileManager.default.removeItem(atPath: output)
      }
      throw CancellationError()
    }
    for number in [SIGINT, SIGTERM, SIGHUP] {
      #expect(try stop(by: number).terminationStatus == 128 + number)
      #expect(partial(place) == [], "after signal \(number)")
    }
    _ = try stop(by: SIGKILL)
    #expect(partial(place).contains(where: isUnfinished))
    #expect(
      try Program.run(
        ["lora", "scale", "m/\(lora)", "small.safetensors", "--by", "2"], in: place.path
      ).status
        == 0)
    #expect(partial(place).filter { $0.hasSuffix(".partial") } == [])
  }

  @Test(arguments: [SIGTERM, SIGHUP])
  func aSplitThatIsStoppedLeavesItsFolderAsItWas(number: Int32) throws {
    let place = try Workshop()
    let clip = try #require(try Clips.all().first)
    let process = try Program.start(
      ["split", clip, "out/deep", "--preset", "veryslow"], in: place.path)
    while process.isRunning,
      try !FileManager.default.subpathsOfDirectory(atPath: place.path).contains(where: {
        $0.hasSuffix(".partial")
      })
    {
      usleep(1000)
    }
    kill(process.processIdentifier, number)
    process.waitUntilExit()
    #expect(process.terminationStatus == 128 + number)
    #expect(!FileManager.default.fileExists(atPath: "\(place.path)/out"))
  }

  @Test func aTerminalThatClosesDoesNotStopWhatNohupRuns() throws {
    let prepared = try PreparedTraining.shared.get()
    let configuration = try prepared.configure("nohup", steps: 12)
    let place = try Workshop()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["nohup", Program.path, "train", configuration, "--threads", "1"]
    process.currentDirectoryURL = URL(fileURLWithPath: place.path)
    (process.standardInput, process.standardOutput, process.standardError) = (
      FileHandle.nullDevice, FileHandle.nullDevice, FileHandle.nullDevice
    )
    try process.run()
    while process.isRunning,
      !FileManager.default.fileExists(atPath: "\(prepared.path)/nohup/metrics.jsonl")
    {
      usleep(5000)
    }
    kill(process.processIdentifier, SIGHUP)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 0)
  }

  @Test func ranksSaveAndEndWhenTheirLauncherIsKilled() throws {
    let prepared = try PreparedTraining.shared.get()
    let configuration = try prepared.configure("orphans", steps: 2000)
    let place = try Workshop()
    let process = try Program.start(
      ["launch", "--nproc-per-node", "2", "ltx", "train", configuration, "--threads", "1"],
      in: place.path)
    let metrics = "\(prepared.path)/orphans/metrics.jsonl"
    while process.isRunning,
      (FileManager.default.contents(atPath: metrics) ?? Data()).filter({ $0 == 10 }).count < 3
    { usleep(5000) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    // The lock is released after rank 0 has ended.
    let lock = "\(prepared.path)/orphans/.ltx.lock"
    for _ in 0..<3000 where FileManager.default.fileExists(atPath: lock) { usleep(10_000) }
    #expect(!FileManager.default.fileExists(atPath: lock))
    let steps = (FileManager.default.contents(atPath: metrics) ?? Data()).filter { $0 == 10 }.count
    #expect(steps < 2000)
    let name = String(format: "lora_weights_step_%05d.safetensors", steps)
    #expect(
      FileManager.default.fileExists(atPath: "\(prepared.path)/orphans/checkpoints/\(name)"),
      "\(steps)")
  }

  @Test func otherProgramsEndTooWhenTheirLauncherIsKilled() throws {
    let place = try Workshop()
    let process = try Program.start(
      [
        "launch", "--nproc-per-node", "2", "sh", "-c",
        "sh -c 'echo $$ > pid-'$RANK'; sleep 100; true'; true",
      ], in: place.path)
    func ids() -> [pid_t] {
      (0..<2).compactMap { FileManager.default.contents(atPath: "\(place.path)/pid-\($0)") }
        .compactMap {
          pid_t(String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
    }
    while process.isRunning, ids().count < 2 { usleep(5000) }
    let started = ids()
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    func isRunning(_ id: pid_t) -> Bool {
      // Zombie processes don't count.
      guard let status = FileManager.default.contents(atPath: "/proc/\(id)/stat") else {
        return false
      }
      return !String(decoding: status, as: UTF8.self).contains(") Z ")
    }
    for _ in 0..<1000 where started.contains(where: isRunning) { usleep(10_000) }
    #expect(started.count == 2 && !started.contains(where: isRunning))
  }
}
