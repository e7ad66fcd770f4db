import Foundation
@preconcurrency import Glibc  // its `environ` is a variable; nothing here sets it
import Torch

extension [Double] {
  var median: Double {
    let sorted = sorted()
    guard !sorted.isEmpty else { return .nan }
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2
  }
}

/// The CPU time of all threads of this process, user and system.
enum ProcessTime {
  static var now: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return seconds(usage)
  }

  static func seconds(_ usage: rusage) -> Double {
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
}

enum ProcessMemory {
  /// The peak memory of this program, in bytes. `getrusage` would include the process that started
  /// it.
  static func peak() throws -> Int { try bytes("VmHWM") }

  /// A value of the process's status, in bytes.
  static func bytes(_ name: String) throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
    guard let line,
      let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else {
      throw BenchmarkError("/proc/self/status has no \(name)")
    }
    return kilobytes * 1024
  }
}

func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try body()
  return (ContinuousClock.now - start) / .seconds(1)
}

/// Floating-point operations per second of a float32 matrix product of the feed-forward layer's
/// size.
func matrixProductRate() throws -> Double {
  let (rows, inner, columns) = (512, 512, 2048)
  let x = try Tensor.ones([rows, inner])
  let w = try Tensor.ones([columns, inner])
  let times = try (0..<40).map { _ in try seconds { _ = try x.linear(w) } }
  return Double(2 * rows * inner * columns) / times.dropFirst(5).map { $0 }.median
}

/// Runs a program to its end and discards its output. Foundation's `Process` would report the end
/// about 50 ms late.
///
/// - Parameter started: called with the process.
/// - Returns: the CPU seconds of all its threads, and of the processes that it started and waited
///   for.
@discardableResult
func run(_ program: String, _ arguments: [String], started: (pid_t) -> Void = { _ in }) throws
  -> Double
{
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
  var words = ([program] + arguments).map { strdup($0) } + [nil]
  defer { for word in words { free(word) } }
  var child: pid_t = 0
  let failure = posix_spawn(&child, program, &actions, nil, &words, environ)
  if failure == 0 { started(child) }
  var status: Int32 = 0
  var usage = rusage()
  guard failure == 0, wait4(child, &status, 0, &usage) == child, status == 0 else {
    throw BenchmarkError(
      "\(program) \(arguments.joined(separator: " ")) exited with \(failure == 0 ? status : failure)"
    )
  }
  return ProcessTime.seconds(usage)
}
