import Support

extension Tokenizer {
  /// The limit of upstream's prompts, in tokens.
  public static let promptLimit = 1024

  /// A prompt in the form that LTX-2's text encoder reads: white space stripped from both ends,
  /// `<bos>` in front, cut on the right and padded on the LEFT with `<pad>` to `maxLength`. An
  /// empty prompt is one `<bos>`.
  ///
  /// Source: `LTXGemmaTokenizer` of upstream's `ltx_core.text_encoders.gemma.tokenizer`; 1024
  /// is its pipeline's length.
  ///
  /// - Returns: `ids` and `mask`, both [maxLength]; the mask is 1 on tokens and 0 on padding.
  /// - Throws: `Issue` when the vocabulary lacks `<bos>` or `<pad>` (then `<eos>` pads,
  ///   and only without it this throws), or when `maxLength` has no room for the template.
  public func encodePrompt(
    _ prompt: String, maxLength: Int = Tokenizer.promptLimit
  ) throws(Issue) -> (ids: [Int], mask: [Int]) {
    let ids = try framed(Self.stripped(prompt), maxLength: maxLength).map(Int.init)
    let pad: Int
    if let id = id(of: "<pad>") ?? id(of: "<eos>") {
      pad = id
    } else {
      pad = Int(try requiredID("<pad>"))
    }
    let missing = maxLength - ids.count
    return (
      Array(repeating: pad, count: missing) + ids,
      Array(repeating: 0, count: missing) + Array(repeating: 1, count: ids.count)
    )
  }

  /// The number of tokens of a prompt before it is cut.
  public func promptLength(_ prompt: String) throws(Issue) -> Int {
    try framed(Self.stripped(prompt), maxLength: nil).count
  }

  /// The text as Python's `str.strip()` leaves it.
  static func stripped(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.isPythonSpace }),
      let last = scalars.lastIndex(where: { !$0.isPythonSpace })
    else { return "" }
    return String(scalars[first...last])
  }
}
