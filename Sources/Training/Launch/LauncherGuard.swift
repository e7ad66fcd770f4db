import CProcess
import Foundation
import Support

/// Ends the launched processes if the launcher is killed and can't do it itself.
///
/// A process of its own waits for the launcher's end. Each rank then gets SIGTERM, so that it saves
/// and ends, and SIGKILL if it is still there after five minutes.
final class LauncherGuard: Sendable {
  private static let graceSeconds: Int32 = 300

  private let descriptor: Int32
  private let process: pid_t

  /// - Throws: `LaunchPlanError` if the system has no room for another process.
  init() throws {
    var process: pid_t = 0
    descriptor = cprocess_start_guard(Self.graceSeconds, &process)
    guard descriptor >= 0 else {
      throw LaunchPlanError("no process can be started (\(describe(errno: errno)))")
    }
    self.process = process
  }

  deinit {
    close(descriptor)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
  }

  /// Reports that a process that leads a group was started, or has ended.
  func report(_ child: ChildProcess, isRunning: Bool) {
    // Without its guard, which someone must have killed, the launcher still ends its processes
    // itself.
    _ = cprocess_report_group(descriptor, child.id, isRunning ? 1 : 0)
  }
}
