import Foundation
import Support

/// A process that leads a process group of its own.
///
/// Foundation's `Process` reports the end of a process only after all of its descendants have
/// ended. The end of a rank must be known at once, because the others wait for it.
struct ChildProcess: Sendable {
  let id: pid_t

  /// The end of a process.
  enum End: Equatable {
    case status(Int32)
    case signal(Int32)
  }

  /// Starts a program without input, with the default actions for all signals.
  ///
  /// - Throws: `Issue` with the reason if it can't be started.
  init(
    _ executable: String, _ arguments: [String], environment: [String: String], output: FileHandle,
    errors: FileHandle
  ) throws {
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&files, output.fileDescriptor, STDOUT_FILENO)
    posix_spawn_file_actions_adddup2(&files, errors.fileDescriptor, STDERR_FILENO)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var (all, none) = (sigset_t(), sigset_t())
    sigfillset(&all)
    sigemptyset(&none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

    let words = ([executable] + arguments).map { strdup($0) }
    let variables = environment.map { strdup("\($0)=\($1)") }
    defer { for text in words + variables { free(text) } }
    var id: pid_t = 0
    let status = posix_spawn(&id, executable, &files, &attributes, words + [nil], variables + [nil])
    guard status == 0 else {
      throw Issue([.file(executable)], "can't be started (\(describe(errno: status)))")
    }
    self.id = id
  }

  /// Blocks until the process has ended. Its ID is not reused before `end` is called.
  func wait() {
    var info = siginfo_t()
    while waitid(P_PID, id_t(id), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
  }

  /// Returns the end of a process that has been waited for. Must be called once.
  func end() -> End {
    var status: Int32 = 0
    while waitpid(id, &status, 0) < 0, errno == EINTR {}
    // Equivalent to WIFSIGNALED and WEXITSTATUS, which Swift does not import.
    return status & 0x7f != 0 ? .signal(status & 0x7f) : .status((status >> 8) & 0xff)
  }

  /// Sends a signal to the process and its descendants.
  func send(_ number: Int32) { kill(-id, number) }
}
