import Foundation

/// Checks of the color conversions that cached files record.
extension CacheChecker {
  /// One sentence for each kind of conversion, with the number of clips and the first names.
  func colorNotes(_ reading: CacheReading) -> [String] {
    var names: [String: [String]] = [:]
    for folder in [CacheFolder.latents, .referenceLatents] {
      for (name, file) in reading.files[folder] ?? [:] {
        guard let told = file.metadata[Fingerprint.Key.color.rawValue], !told.isEmpty else {
          continue
        }
        let owner = folder == .latents ? name : "the reference of \(name)"
        for clause in told.split(separator: ";") {
          names[clause.trimmingCharacters(in: .whitespaces), default: []].append(owner)
        }
      }
    }
    return names.sorted { $0.key < $1.key }.map { clause, owners in
      let shown = owners.sorted().prefix(3).joined(separator: ", ")
      let rest = owners.count > 3 ? " and \(owners.count - 3) more" : ""
      return "\(clause): \(shown)\(rest)"
    }
  }
}
