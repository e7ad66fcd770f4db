/// What can go wrong while a `tokenizer.json` is read or used.
public enum TokenizerError: Error, Equatable, CustomStringConvertible {
  /// The file can't be opened or read.
  case unreadable(file: String, reason: String)
  /// The file isn't JSON (RFC 8259). Lines count from 1.
  case malformed(file: String, line: Int, problem: String)
  /// The file is JSON, but the value under `key` isn't what a tokenizer has there.
  case invalid(file: String, key: String, problem: String)
  /// The file asks for a component or an option that this tokenizer doesn't have.
  case unsupported(file: String, key: String, kind: String)
  /// A prompt needs this token (`<bos>`, `<pad>`) and the vocabulary lacks it.
  case missingToken(file: String, token: String)
  /// The tokens that are added to every prompt alone are more than the wanted length.
  case lengthTooSmall(length: Int, needed: Int)

  public var description: String {
    switch self {
    case .unreadable(let file, let reason):
      "\(file): can't read the tokenizer: \(reason)"
    case .malformed(let file, let line, let problem):
      "\(file):\(line): not valid JSON: \(problem). The file may be cut off or damaged; fetch it again."
    case .invalid(let file, let key, let problem):
      "\(file): \(key): \(problem)"
    case .unsupported(let file, let key, let kind):
      "\(file): \(key): \(kind) is not supported. Supported are the parts that Gemma tokenizers use."
    case .missingToken(let file, let token):
      "\(file): the vocabulary has no token \(token). Is this the tokenizer of a Gemma text encoder?"
    case .lengthTooSmall(let length, let needed):
      "a prompt of \(length) tokens has no room for the \(needed) that are always added"
    }
  }
}
