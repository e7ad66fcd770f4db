/// Files that were made from clips with damaged frames.
extension CacheChecker {
  func damage(_ reading: CacheReading) -> [DatasetProblem] {
    [CacheFolder.latents, .referenceLatents].flatMap { folder in
      (reading.files[folder] ?? [:]).compactMap { name, file in
        file.metadata[Fingerprint.Key.sourceDamage.rawValue].map { damage in
          DatasetProblem(
            .damage, file: cache.relative(file.path), sample: name,
            "made from a \(folder == .latents ? "clip" : "reference") with damage: \(damage). "
              + "Get a whole copy of the file and preprocess it again, or remove the row.")
        }
      }
    }
  }
}
