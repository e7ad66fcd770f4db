import Foundation
import LTX
import LanguageModels
import Media
import NN
import TensorFiles

/// What has to be done for a dataset. Making it loads no model and decodes no long clip; all mistakes that can be known
/// before the work are found here.
public struct PreprocessingPlan: Sendable {
  struct Item: Sendable {
    let sample: DatasetSample
    let latentsPath: String
    let conditionsPath: String
    let prompt: String
    let latents: Fingerprint
    let conditions: Fingerprint
    let needsLatents: Bool
    let needsConditions: Bool
    /// Known of clips that are to be encoded only.
    let hasSound: Bool
  }

  let options: PreprocessingOptions
  let checkpoint: Checkpoint
  let outputFolder: String
  /// Clips that can be worked on, as far as is known.
  let items: [Item]
  /// Clips that can't.
  let failures: [PreprocessingFailure]
  let sampleCount: Int
  let notes: [String]

  /// - Throws: `PreprocessingError`, `NoUsableClips`, `ConfigurationError`, `TensorFileError` or `TorchError`, which say
  ///   what to change.
  public init(_ options: PreprocessingOptions) throws {
    self.options = options
    try options.device.prepare()
    let file = try DatasetFile(path: options.dataset)
    let columns = try DatasetColumns(of: file, media: options.videoColumn, caption: options.captionColumn)
    let samples = try file.samples(columns)

    checkpoint = try Checkpoint(options.models)
    try Self.requireModels(checkpoint, options)
    try Self.requireBuckets(options.buckets, fit: checkpoint)
    let model = try FileIdentity.identity(of: options.models)
    let textEncoderPath = options.models.textEncoder ?? ""
    let textEncoder =
      try FileIdentity.identity(of: textEncoderPath) + (options.textEncoder8bit ? " int8" : "")

    let output =
      options.outputFolder
      ?? absolutePath(
        ".precomputed", in: absolutePath((options.dataset as NSString).deletingLastPathComponent))
    outputFolder = output
    if let problem = OutputFolder.problem(output + "/latents") {
      throw PreprocessingError(.writing, file: output, "\(problem); choose another --output-dir")
    }
    let clips = ClipReader(buckets: options.buckets)
    var items: [Item] = []
    var failures: [PreprocessingFailure] = []
    for sample in samples {
      do {
        items.append(
          try Self.item(sample, options, clips: clips, output: output, model: model, textEncoder: textEncoder)
        )
      } catch let error as MediaError {
        failures.append(
          PreprocessingFailure(sample, of: options, error, olderLatents: Self.latentsPath(sample, output)))
      }
    }
    guard !items.isEmpty else { throw NoUsableClips(failures: failures) }
    self.items = items
    self.failures = failures
    sampleCount = samples.count
    notes = Self.notes(file, columns, withSound: options.skipAudio ? 0 : items.count(where: \.hasSound))
  }

  private static func item(
    _ sample: DatasetSample, _ options: PreprocessingOptions, clips: ClipReader, output: String,
    model: String, textEncoder: String
  ) throws -> Item {
    let (dtype, prompt) = (options.dtype.rawValue, options.prompt(sample.caption))
    let latents = Fingerprint.latents(
      of: sample, buckets: options.buckets, model: model, dtype: dtype,
      tiling: options.tiling.flatMap(\.height).map { "\($0.size)/\($0.overlap)" } ?? "")
    let conditions = Fingerprint.conditions(
      prompt: prompt, model: model, textEncoder: textEncoder, dtype: dtype)
    let latentsPath = Self.latentsPath(sample, output)
    let conditionsPath = "\(output)/conditions/\(sample.name).safetensors"
    guard let latents else {
      throw MediaError(
        .notReadable, file: sample.mediaPath, "there is no such file",
        remedy: "Media paths are relative to the dataset file; correct the path or remove the row.")
    }
    let needsLatents = options.overwrite || !latents.fits(latentsPath)
    let hasSound = try needsLatents && clips.check(sample.mediaPath)
    return Item(
      sample: sample, latentsPath: latentsPath, conditionsPath: conditionsPath, prompt: prompt,
      latents: latents, conditions: conditions, needsLatents: needsLatents,
      needsConditions: options.overwrite || !conditions.fits(conditionsPath), hasSound: hasSound)
  }

  private static func latentsPath(_ sample: DatasetSample, _ output: String) -> String {
    "\(output)/latents/\(sample.name).safetensors"
  }

  /// Checks that both the checkpoint and the text encoder are of kinds that can be used.
  private static func requireModels(_ checkpoint: Checkpoint, _ options: PreprocessingOptions) throws {
    try checkpoint.require("transformer", "vae")
    _ = try TextConfiguration(checkpoint.config)
    let root = checkpoint.weights()
    for (scope, what, component) in [
      (root / Checkpoint.Prefix.videoVAE / "encoder", "video VAE encoder", ModelFiles.Component.videoVAE),
      (root / Checkpoint.Prefix.textProjection, "text projection", .transformer),
    ] where !scope.isPresent {
      throw PreprocessingError(
        .model, file: options.models.path(of: component) ?? options.models.name,
        "holds no \(what) (\(scope.path).…); give an LTX-2 checkpoint with all of its parts in one file, or "
          + "another \(component.option)")
    }
    guard let textEncoder = options.models.textEncoder else {
      throw PreprocessingError(
        .option, "--text-encoder-path: is not given; name the folder or the file of a Gemma 3 model")
    }
    try TextEncoderFiles(path: textEncoder).requireAll()
  }

  private static func requireBuckets(_ buckets: [ResolutionBucket], fit checkpoint: Checkpoint) throws {
    guard !buckets.isEmpty else {
      throw PreprocessingError(.option, "--resolution-buckets: give at least one, such as 768x768x49")
    }
    let vae = try VideoVAEConfiguration.Encoder(checkpoint.config)
    let factors = vae.compression
    for bucket in buckets {
      try bucket.requireFit(factors)
      if vae.padding == .reflect, min(bucket.height / factors.height, bucket.width / factors.width) < 2 {
        throw PreprocessingError(
          .option,
          "--resolution-buckets: \(bucket): this checkpoint's video VAE needs at least "
            + "\(2 * factors.width)x\(2 * factors.height) pixels")
      }
    }
  }

  private static func notes(_ file: DatasetFile, _ columns: DatasetColumns, withSound: Int) -> [String] {
    var notes = ["media from the column \"\(columns.media)\", captions from \"\(columns.caption)\""]
    let unused = DatasetColumns.unused.filter(file.columns.contains)
    if !unused.isEmpty {
      notes.append("not used by this version: the columns \(unused.joined(separator: ", "))")
    }
    if withSound > 0 {
      notes.append(
        "\(withSound) of the clips have sound, which this version leaves out, as --skip-audio does")
    }
    return notes
  }
}

extension PreprocessingFailure {
  /// - Parameter olderLatents: where the clip's latents belong. What may lie there was made from something else, and is
  ///   not removed, for the clip it was made from may be gone; but it must not go unnoticed.
  init(
    _ sample: DatasetSample, of options: PreprocessingOptions, _ error: MediaError, olderLatents: String
  ) {
    let isThere = FileManager.default.fileExists(atPath: olderLatents)
    let note = isThere ? " The latents of an earlier run still lie in \(olderLatents)." : ""
    self.init(dataset: options.dataset, line: sample.line, problem: "\(error)\(note)")
  }
}
