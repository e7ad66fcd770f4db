import Datasets
import Foundation
import LTX
import Support
import Torch

extension SampleIndex {
  /// The index of a cache, which only rank 0 reads for all ranks that see its folder.
  ///
  /// A rank that sees another folder at the path, such as a copy on its machine's disk, reads the
  /// headers itself. The identity of the dataset, which the ranks compare before the first step,
  /// then shows whether the copy is the same.
  ///
  /// - Throws: `Issue` or `TensorFileError` for a cache that can't be used, on each rank that finds
  ///   it; `TorchError` of kind `.collective`.
  static func shared(
    root: String, _ strategies: PerModality<ModalityStrategy?>, group: ProcessGroup
  ) throws -> SampleIndex {
    func read() throws -> SampleIndex { try SampleIndex(root: root, strategies) }
    guard group.worldSize > 1 else { return try read() }
    let folders = [root] + PrecomputedDataset.folders(strategies).map { "\(root)/\($0)" }
    let views = try group.allGather(bytes: Array(view(of: folders).utf8))
    let seesFirst = views.map { $0 == views[0] }
    guard seesFirst.dropFirst().contains(true) else { return try read() }
    var own: Result<SampleIndex, any Error>?
    if group.isMain || !seesFirst[group.rank] { own = Result { try read() } }
    var sent: [UInt8] = []
    if group.isMain, case .success(let index) = own { sent = index.encoded(root: root) }
    let received = try group.broadcast(bytes: sent)
    if let own { return try own.get() }
    // Rank 0 could not read the cache, so this rank finds the reason.
    guard !received.isEmpty else { return try read() }
    let index = try SampleIndex(encoded: received, root: root)
    try index.entries.first?.requireReadable()
    return index
  }

  /// Text that is the same on all machines that see the same folders, and on no others: a copy has
  /// other inodes and times of change.
  private static func view(of folders: [String]) -> String {
    folders.map { folder in
      var status = stat()
      guard stat(folder, &status) == 0 else { return "missing" }
      let (made, changed) = (status.st_mtim, status.st_ctim)
      return "\(status.st_ino) \(made.tv_sec).\(made.tv_nsec) \(changed.tv_sec).\(changed.tv_nsec)"
    }.joined(separator: ", ")
  }
}

extension PrecomputedDataset.Entry {
  /// Checks that this process can read the files' headers.
  fileprivate func requireReadable() throws {
    for path in files.values { _ = try SampleFile(path: path) }
  }
}

extension PrecomputedDataset {
  /// The identity of the samples: that of rank 0 on ranks with its index.
  ///
  /// - Throws: The errors of `identities`; `TorchError` of kind `.collective`.
  func identity(emptyPrompt: String?, group: ProcessGroup) throws -> String {
    let own = try identities(emptyPrompt: emptyPrompt).map(FileIdentity.identity(ofNames:))
    let first = try group.broadcast(bytes: Array((own ?? "").utf8))
    return own ?? String(decoding: first, as: UTF8.self)
  }
}
