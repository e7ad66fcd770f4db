import Support

typealias AtomicFile = Support.AtomicFile

extension AtomicFile {
  /// - Throws: here and while it is written, `TensorFileError` of kind `.notWritten`.
  convenience init(path: String) throws {
    try self.init(path: path) {
      TensorFileError(.notWritten, path: $0.path, "\($0.problem). \($0.remedy)")
    }
  }
}
