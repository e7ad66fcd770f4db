/// Decides which samples can share a batch, and how much of their audio is used.
///
/// Samples of a batch have video latents of one shape. Their frame rates may differ, since each
/// sample's positions follow its own rate. Audio latents whose lengths are close are cut to the
/// shortest of their group: clips of 29.97 and 30 fps with the same number of frames differ by up
/// to one latent step of audio.
struct BatchShapes: Sendable {
  /// A key for each sample; samples with equal keys fit into one batch.
  let keys: [[Int]]
  /// The samples whose audio is cut, and the largest cut in latent steps.
  let cutSamples: Int
  let longestCut: Int
  /// The latent steps of each sample that are trained on, by folder of audio latents.
  private let steps: [String: [Int]]

  /// The limit by which a group's audio lengths may exceed the shortest one: 1 %, but at least one
  /// latent step (0.04 s).
  static func tolerance(_ shortest: Int) -> Int { max(1, shortest / 100) }

  /// - Parameter batchSize: the batch size; with 1, nothing is cut.
  init(_ dataset: PrecomputedDataset, batchSize: Int) {
    let entries = dataset.entries
    let kinds = PrecomputedDataset.latentFolders(dataset.strategies)
    let audio = Set(kinds.filter { $0.kind == .audio }.map(\.folder)).sorted()
    let folders = (entries.first.map { $0.shapes.keys.sorted() } ?? []).filter {
      !audio.contains($0)
    }
    var keys = entries.map { entry in folders.flatMap { entry.shapes[$0] ?? [] } }
    let groups = Dictionary(grouping: entries.indices) { keys[$0] }
    var steps: [String: [Int]] = [:]
    for folder in audio {
      var own = entries.map { $0.shapes[folder]?[1] ?? 0 }
      if batchSize > 1 {
        for group in groups.values {
          var shortest = 0
          for index in group.sorted(by: { own[$0] < own[$1] }) {
            if shortest == 0 || own[index] > shortest + Self.tolerance(shortest) {
              shortest = own[index]
            }
            own[index] = shortest
          }
        }
      }
      steps[folder] = own
      for index in entries.indices {
        keys[index] +=
          [entries[index].shapes[folder]?[0] ?? 0, own[index]]
          + (entries[index].shapes[folder]?.dropFirst(2) ?? [])
      }
    }
    let cuts = entries.indices.map { index in
      audio.map { (entries[index].shapes[$0]?[1] ?? 0) - (steps[$0]?[index] ?? 0) }.max() ?? 0
    }
    cutSamples = cuts.count { $0 > 0 }
    longestCut = cuts.max() ?? 0
    self.keys = keys
    self.steps = steps
  }

  /// Returns the same samples with their audio cut.
  func dataset(_ dataset: PrecomputedDataset) -> PrecomputedDataset {
    guard cutSamples > 0 else { return dataset }
    var entries = dataset.entries
    for (folder, own) in steps {
      for index in entries.indices { entries[index].shapes[folder]?[1] = own[index] }
    }
    return PrecomputedDataset(dataset, entries: entries)
  }
}
