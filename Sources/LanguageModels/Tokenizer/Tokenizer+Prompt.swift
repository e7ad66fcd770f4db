import Support

extension Tokenizer {
  /// The maximum length of upstream's prompts, in tokens.
  public static let promptLimit = 1024

  /// Encodes a prompt in the form that LTX-2's text encoder reads: white space is stripped from
  /// both ends, `<bos>` is put in front, and the ids are truncated on the right or padded on the
  /// LEFT with `<pad>` to `maxLength`. An empty prompt is one `<bos>`.
  ///
  /// Source: `LTXGemmaTokenizer` of upstream's `ltx_core.text_encoders.gemma.tokenizer`; its
  /// pipelines use the length 1024.
  ///
  /// - Returns: `ids` and `mask`, both [maxLength]; the mask is 1 on tokens and 0 on padding.
  /// - Throws: `Issue` if the vocabulary lacks `<bos>`, or both `<pad>` and its replacement
  ///   `<eos>`, or if `maxLength` is too short for the template.
  public func encodePrompt(
    _ prompt: String, maxLength: Int = Tokenizer.promptLimit
  ) throws(Issue) -> (ids: [Int], mask: [Int]) {
    let ids = try framed(prompt.strippedLikePython, maxLength: maxLength).map(Int.init)
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

  /// The number of tokens of a prompt before truncation.
  public func promptLength(_ prompt: String) throws(Issue) -> Int {
    try framed(prompt.strippedLikePython, maxLength: nil).count
  }
}
