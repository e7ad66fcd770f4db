import Foundation
import Media

/// The audio level in the metadata of cached audio latents.
extension SampleLevel {
  /// Nil for files without the level, such as those of the official trainer.
  public init?(metadata: [String: String]) {
    guard let peak = metadata[Fingerprint.Key.audioPeak.rawValue].flatMap(Double.init),
      let rms = metadata[Fingerprint.Key.audioRMS.rawValue].flatMap(Double.init), !peak.isNaN,
      !rms.isNaN
    else { return nil }
    self.init(peak: peak, rms: rms)
  }

  /// The level for the metadata of audio latents.
  var fields: [Fingerprint.Key: String] {
    func text(_ level: Double) -> String {
      level == -.infinity ? "-inf" : String(format: "%.2f", level)
    }
    return [.audioPeak: text(peak), .audioRMS: text(rms)]
  }
}

/// The samples of a dataset that have silent audio.
public struct SilentAudio: Equatable, Sendable {
  /// The names of the samples whose audio is silent, in order.
  public let names: [String]
  /// The number of samples whose audio latents record the loudness of the audio.
  public let measured: Int

  /// - Parameter levels: the levels by the samples' names.
  public init(_ levels: [String: SampleLevel]) {
    names = levels.filter(\.value.isSilent).keys.sorted()
    measured = levels.count
  }

  /// A sentence with the number of silent samples and the consequences; nil if there are none.
  public var note: String? {
    guard let first = names.first else { return nil }
    let quiet = "digital silence, or below \(Int(SampleLevel.silence)) dBFS RMS"
    if names.count == measured {
      return
        "the audio of \(measured == 1 ? "the only sample" : "all \(measured) samples") is silent (\(quiet)); "
        + "training audio on it teaches silence. Check the source files, or train video only"
    }
    return
      "the audio of \(names.count) of \(measured) samples is silent (\(quiet)), such as \(first); training audio on "
      + "them teaches silence. Check the source files, or remove the samples"
  }
}
