import Foundation
import Support

/// A program that makes one file from another. It runs without a shell.
public struct ClipCommand: Equatable, Sendable {
  /// The program and its arguments, with `{input}` and `{output}` in place of the files' paths.
  public let words: [String]

  /// Splits a line at spaces. Text in single quotes is kept unchanged, and in double quotes
  /// everything but \" and \\; outside of quotes a backslash keeps the next character. Variables,
  /// patterns, pipes and redirections have no meaning.
  ///
  /// - Throws: `Issue` about `command` for an unclosed quote, or a line without a program or one of
  ///   the placeholders.
  public init(_ line: String) throws {
    words = try Self.split(line)
    guard let program = words.first, !program.isEmpty else {
      throw Issue(["command"], "names no program")
    }
    for place in ["{input}", "{output}"]
    where !words.dropFirst().contains(where: { $0.contains(place) }) {
      throw Issue(
        ["command"], "has no \(place)",
        suggestion: "Put \(place) where the program takes the "
          + (place == "{input}" ? "clip." : "file to write."))
    }
  }

  private static func split(_ line: String) throws -> [String] {
    var words: [String] = []
    var word: String?
    var quote: Character?
    var rest = line[...]
    while let character = rest.popFirst() {
      if let open = quote {
        if character == open {
          quote = nil
        } else if character == "\\", open == "\"", let next = rest.first, "\"\\".contains(next) {
          word?.append(rest.removeFirst())
        } else {
          word?.append(character)
        }
      } else if character == "'" || character == "\"" {
        quote = character
        word = word ?? ""
      } else if character == "\\", let next = rest.popFirst() {
        word = (word ?? "") + String(next)
      } else if character.isWhitespace {
        if let finished = word { words.append(finished) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    if let quote {
      throw Issue(["command"], "the quote \(quote) is not closed")
    }
    return words + (word.map { [$0] } ?? [])
  }

  /// Runs the program and waits for it. It has no standard input, and its standard output is
  /// discarded.
  ///
  /// - Returns: the last line of its standard error, if there is any.
  /// - Throws: `Issue` if the program can't be started, or exits with a status other than 0.
  func run(input: String, output: String) throws -> String? {
    let arguments = words.enumerated().map { index, word in
      // In one pass, because a path may itself contain a placeholder.
      index == 0
        ? word
        : word.components(separatedBy: "{input}").map {
          $0.replacingOccurrences(of: "{output}", with: output)
        }
        .joined(separator: input)
    }
    let log = FileManager.default.temporaryDirectory.appendingPathComponent(
      "ltx-\(UUID().uuidString).log"
    )
    .path
    TemporaryFiles.add(log)
    defer {
      unlink(log)
      TemporaryFiles.remove(log)
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(
      &actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    // The program starts with the default handlers of signals that this process handles.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var (ignored, blocked) = (sigset_t(), sigset_t())
    sigemptyset(&ignored)
    for number in [SIGPIPE, SIGXFSZ, SIGINT, SIGTERM] { sigaddset(&ignored, number) }
    sigemptyset(&blocked)
    posix_spawnattr_setsigdefault(&attributes, &ignored)
    posix_spawnattr_setsigmask(&attributes, &blocked)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
    var pointers = arguments.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    var process = pid_t()
    let started = posix_spawnp(&process, arguments[0], &actions, &attributes, &pointers, environ)
    guard started == 0 else {
      throw Issue("\(words[0]) can't be started (\(describe(errno: started)))")
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 {
      guard errno == EINTR else {
        throw Issue("waiting for \(words[0]) failed (\(describe(errno: errno)))")
      }
    }
    let complaint = Self.lastLine(of: log)
    guard status != 0 else { return complaint }
    let signal = status & 0x7F
    let end =
      signal != 0 ? "was ended by signal \(signal)" : "ended with status \((status >> 8) & 0xFF)"
    throw Issue("\(words[0]) \(end)" + (complaint.map { ": \($0)" } ?? ""))
  }

  /// Returns the last line that is not blank in a text file's last 64 KiB.
  private static func lastLine(of path: String) -> String? {
    guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
    do {
      let size = try handle.seekToEnd()
      try handle.seek(toOffset: size > 65536 ? size - 65536 : 0)
      let text = String(decoding: try handle.readToEnd() ?? Data(), as: UTF8.self)
      return text.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) }
        .map { $0.trimmingCharacters(in: .whitespaces) }
    } catch { return nil }  // the failure itself is reported anyway
  }
}
