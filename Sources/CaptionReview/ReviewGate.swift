import NIOHTTP1

/// The secret part of the page's address, 192 random bits.
struct ReviewToken: Sendable {
  let text: String

  init() {
    var generator = SystemRandomNumberGenerator()
    let digits = Array("0123456789abcdef".utf8)
    let bytes = (0..<6).flatMap { _ in
      let word: UInt64 = generator.next()
      return stride(from: 0, to: 32, by: 4).map { digits[Int(word >> UInt64($0) & 15)] }
    }
    text = String(decoding: bytes, as: UTF8.self)
  }

  /// Returns whether a text is the token, in a time that does not depend on its characters.
  func matches(_ candidate: some Collection<UInt8>) -> Bool {
    let (own, given) = (Array(text.utf8), Array(candidate))
    var difference = own.count ^ given.count
    for (index, byte) in own.enumerated() {
      difference |= Int(byte ^ (index < given.count ? given[index] : 0))
    }
    return difference == 0
  }
}

/// Decides which requests may see the dataset: those with the token in their path, addressed to
/// this machine.
///
/// Other users of the machine can reach the port, and so can any web page in the user's browser.
/// Neither knows the token. A page that points its own host name at 127.0.0.1 (DNS rebinding) is
/// refused by the `Host` header, and a form of another page by the `Origin` header.
struct ReviewGate: Sendable {
  let token: ReviewToken
  /// The accepted values of `Host`.
  private let hosts: [String]

  init(token: ReviewToken, port: Int) {
    self.token = token
    hosts =
      ["127.0.0.1:\(port)", "localhost:\(port)"] + (port == 80 ? ["127.0.0.1", "localhost"] : [])
  }

  /// Returns the path below the token, with its query; nil for a request that is refused.
  func path(of head: HTTPRequestHead) -> Substring? {
    let path = head.uri.utf8
    guard path.first == UInt8(ascii: "/") else { return nil }
    let rest = path.dropFirst()
    let end = rest.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
    // The token is compared first, so that a refusal says nothing about the rest.
    guard token.matches(rest[..<end]), end < rest.endIndex else { return nil }
    let host = head.headers["Host"]
    guard host.count == 1, hosts.contains(host[0].lowercased()) else { return nil }
    let origin = head.headers["Origin"]
    guard origin.allSatisfy({ value in hosts.contains { value.lowercased() == "http://\($0)" } })
    else { return nil }
    return head.uri[rest.index(after: end)...]
  }
}
