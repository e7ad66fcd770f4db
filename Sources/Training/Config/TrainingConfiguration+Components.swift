import LTX

extension TrainingConfiguration {
  /// Checks that a transformer of a split pack comes with the files of the other components that the
  /// run needs. A unified checkpoint has all of them.
  ///
  /// - Parameter decodesAudio: Whether samples are generated with audio.
  /// - Throws: `ConfigurationProblems` that name the missing keys; the errors of opening the file.
  func requireComponents(decodesAudio: Bool = false) throws {
    guard try Checkpoint(path: model.modelPath).isTransformerAlone else { return }
    var missing: [(key: ConfigurationKey, component: String)] = []
    if model.videoVAEPath == nil { missing.append((.videoVAE, "video VAE")) }
    if decodesAudio, model.audioVAEPath == nil { missing.append((.audioVAE, "audio VAE")) }
    guard !missing.isEmpty else { return }
    throw ConfigurationProblems(
      file: source.file,
      problems: missing.flatMap { key, component in
        problem(
          key,
          "is missing; \(model.modelPath) is a transformer alone, which needs the file of its "
            + "\(component)"
        ).problems
      })
  }
}
