import Media

extension CacheReading {
  /// How loud the audio of the samples was, as far as their latents say.
  var silentAudio: SilentAudio { SilentAudio(audioLevels(.audioLatents)) }

  func audioLevels(_ folder: CacheFolder) -> [String: SampleLevel] {
    (files[folder] ?? [:]).compactMapValues { SampleLevel(metadata: $0.metadata) }
  }
}

extension CacheChecker {
  /// Audio latents of silence, which teach a model to be silent.
  func silence(_ reading: CacheReading) -> [DatasetProblem] {
    [CacheFolder.audioLatents, .referenceAudioLatents].flatMap { folder in
      reading.audioLevels(folder).sorted { $0.key < $1.key }.compactMap { name, level in
        guard let note = level.silenceNote, let file = reading[folder, name] else { return nil }
        return DatasetProblem(
          .silence, file: cache.relative(file.path), sample: name,
          "\(note); training audio on it teaches silence. Check the source file, or remove the sample"
        )
      }
    }
  }
}
