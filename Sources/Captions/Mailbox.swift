import Foundation

/// Messages from threads to one reader.
///
/// It is unchecked because the compiler doesn't see that `messages` is used only with the
/// condition's lock held.
final class Mailbox<Message: Sendable>: @unchecked Sendable {
  private let condition = NSCondition()
  private var messages: [Message] = []

  func post(_ message: Message) {
    condition.withLock {
      messages.append(message)
      condition.signal()
    }
  }

  /// Waits for a message and takes it.
  func next() -> Message {
    condition.withLock {
      while messages.isEmpty { condition.wait() }
      return messages.removeFirst()
    }
  }
}
