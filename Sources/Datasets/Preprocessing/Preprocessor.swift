import Foundation
import Generation
import LTX
import Media
import NN
import Support
import TensorFiles
import Torch

/// The progress of preprocessing.
public enum PreprocessingEvent: Sendable {
  public enum Phase: Sendable { case captions, media }

  /// The models are being loaded; `total` samples will be encoded, and the others are already
  /// cached.
  case loading(Phase, total: Int)
  case advanced(Phase, done: Int, total: Int)
}

/// Encodes clips, audio and captions to the latents and text features that training reads, like
/// upstream's dataset scripts. `docs/preprocessing.md` describes the files.
///
/// Each file appears complete or not at all and contains its `Fingerprint`, so that a killed run
/// can be resumed. The text encoder is freed before the VAEs are loaded, and media are read ahead
/// of the encoders.
public final class Preprocessor {
  private let plan: PreprocessingPlan
  private let notify: (PreprocessingEvent) -> Void
  private let shouldStop: () -> Bool
  private var report: PreprocessingReport

  /// - Parameter shouldStop: Checked after each sample; true ends the run, which a rerun resumes.
  public init(
    _ plan: PreprocessingPlan, notify: @escaping (PreprocessingEvent) -> Void = { _ in },
    shouldStop: @escaping () -> Bool = { false }
  ) {
    self.plan = plan
    self.notify = notify
    self.shouldStop = shouldStop
    report = plan.report
  }

  /// Does the work and writes the report, even if the work fails.
  ///
  /// - Throws: The errors of loading the models; `WritingError` or `TensorFileError` if the output
  ///   can't be written (`isWritingFailure`); `TorchError` if memory runs out. A sample that can't
  ///   be used is an entry of the report, not an error.
  public func run() throws -> PreprocessingReport {
    let began = Date()
    do {
      try makeFolder(plan.outputFolder) {
        WritingError(path: plan.outputFolder, $0)
      }
      try plan.repeats?.write(cache: plan.outputFolder)
      for work in plan.work {
        for folder in work.upToDate { report.counts[folder, default: .init()].upToDate += 1 }
        if work.pending.isEmpty { report.upToDate += 1 }
      }
      try encodeCaptions()
      if !isStopped { try encodeMedia() }
      if isStopped { report.interruption = "stopped by a signal; run again to resume" }
    } catch {
      report.interruption = describe(error)
      finish(began)
      throw error
    }
    finish(began)
    try report.write(share: plan.options.share)
    return report
  }

  /// The report so far.
  public var currentReport: PreprocessingReport { report }

  private var isStopped = false
  /// The number of clips that are read differently from upstream, by the reason.
  private var corrected: [Clip.Correction: Int] = [:]

  private func finish(_ began: Date) {
    report.seconds = Date().timeIntervalSince(began)
    report.sort()
    for correction in Clip.Correction.allCases {
      guard let count = corrected[correction] else { continue }
      report.notes.append(correction.note(count))
    }
    noteSilentAudio()
    do {
      try plan.hashes.save()
    } catch {
      report.notes.append(
        "the hashes of the sources can't be stored and will be computed again: \(describe(error))"
      )
    }
    guard report.interruption != nil else { return }
    do {
      try report.write(share: plan.options.share)
    } catch {
      report.notes.append(describe(error))
    }
  }

  /// Counts samples with silent audio, whether they were encoded in this run or an earlier one.
  private func noteSilentAudio() {
    var levels: [String: SampleLevel] = [:]
    for work in plan.work
    where AudioLatentsArtifact().isWanted(work.sample, plan.options) {
      let fingerprint = plan.check.file(.audioLatents, work.sample).fingerprint
      levels[work.sample.name] = fingerprint.flatMap { SampleLevel(metadata: $0.fields) }
    }
    let silent = SilentAudio(levels)
    report.withSilentAudio = silent.names.count
    if let note = silent.note { report.notes.append(note) }
  }

  // MARK: Captions

  private func encodeCaptions() throws {
    let artifact = TextFeaturesArtifact()
    let pending = plan.work.filter { $0.pending.contains(artifact.folder) }
    let emptyPrompt = plan.pendingEmptyPrompt
    guard !pending.isEmpty || emptyPrompt != nil else { return }
    // Captions with equal bytes are encoded once. Canonically equivalent strings can have different
    // tokens.
    let works = Dictionary(grouping: pending) { Array($0.prompt.utf8) }
      .values.sorted { $0[0].sample.index < $1[0].sample.index }
    notify(.loading(.captions, total: pending.count))
    let options = plan.options
    let encoder = try plan.checkpoint.promptEncoder(
      dtype: options.dtype, device: options.device, storage: options.textEncoderStorage,
      placements: plan.memory.textEncoder)
    var done = 0
    notify(.advanced(.captions, done: 0, total: pending.count))
    for group in works {
      let prompt = group[0].prompt
      let features = try encoder([prompt])
      let excess = try encoder.excessTokens(prompt)
      for work in group {
        guard try features.byModality.video.isAllFinite() else {
          throw Issue(
            [.file(options.models.name)],
            "the text features of \"\(work.sample.media)\" are not finite: the weights are damaged, "
              + "or too large for \(options.dtype)")
        }
        if excess > 0 {
          report.warn(
            .conditions, work.sample,
            "\(work.sample.media): its caption is \(excess) tokens too long and was truncated")
        }
        try store(
          artifact.values(features), artifact.folder, work.sample,
          artifact.storedFingerprint(prompt, plan.check.rules))
        done += 1
        notify(.advanced(.captions, done: done, total: pending.count))
      }
      if shouldStop() {
        isStopped = true
        return
      }
    }
    guard let emptyPrompt else { return }
    _ = try emptyPrompt.write(
      artifact.values(encoder([""])), artifact.fingerprint("", plan.check.rules))
  }

  // MARK: Media

  private func encodeMedia() throws {
    let pending = plan.work.filter { !$0.pending.subtracting([.conditions]).isEmpty }
    guard !pending.isEmpty else { return }
    let folders = pending.reduce(into: Set<CacheFolder>()) { $0.formUnion($1.pending) }
    notify(.loading(.media, total: pending.count))
    let encoder = try MediaEncoder(plan, folders.compactMap { Artifacts[$0] })
    let options = plan.options
    let batchSize = max(1, options.batchSize)
    let reader = SampleReader(check: plan.check, checkpoint: plan.checkpoint)
    let samples = ReadAhead(count: pending.count, capacity: batchSize, threads: Self.readers) {
      reader.read(pending[$0])
    }
    var done = 0
    notify(.advanced(.media, done: 0, total: pending.count))
    while done < pending.count {
      var batch: [PreparedSample] = []
      while batch.count < batchSize, let sample = try samples.next() { batch.append(sample) }
      for sample in try encoder.encode(batch) { try take(sample) }
      done += batch.count
      notify(.advanced(.media, done: done, total: pending.count))
      if shouldStop() {
        isStopped = true
        return
      }
    }
  }

  /// The number of files that are read at a time. Decoding and resizing share the processors with
  /// the models.
  private static let readers = max(1, min(4, ProcessInfo.processInfo.activeProcessorCount / 2))

  /// Writes the files of a sample and adds the result to the report.
  private func take(_ encoded: EncodedSample) throws {
    let sample = encoded.sample
    if let fatal = sample.fatal { throw fatal }
    let work = sample.work
    for folder in sample.upToDate.subtracting(work.upToDate) {
      report.counts[folder, default: .init()].upToDate += 1
    }
    for (folder, reason) in sample.failures { report.add(folder, work.sample, reason, plan.check) }
    for (folder, reason) in sample.warnings { report.warn(folder, work.sample, reason) }
    if sample.isSilent { report.withoutAudio += 1 }
    for correction in sample.corrections { corrected[correction, default: 0] += 1 }
    for (file, values) in encoded.files {
      let artifact = file.artifact
      do {
        let values = try values.get()
        guard try values.isAllFinite() else {
          throw Issue(
            "are not finite: the weights are damaged, or too large for \(plan.options.dtype)")
        }
        try store(values, artifact.folder, work.sample, file.fingerprint)
      } catch let error as TorchError where error.kind == .outOfMemory {
        throw error
      } catch let error where Self.isWritingFailure(error) {
        throw error
      } catch let error as MediaError {
        report.add(artifact.folder, work.sample, describe(error), plan.check)
      } catch {
        report.add(
          artifact.folder, work.sample,
          "\(work.sample.media): \(artifact.noun): \(describe(error))", plan.check)
      }
    }
  }

  // MARK: Files

  private func store(
    _ values: CachedValues, _ folder: CacheFolder, _ sample: DatasetSample,
    _ fingerprint: Fingerprint
  ) throws {
    let file = plan.check.file(folder, sample)
    do {
      if let other = try file.write(values, fingerprint) {
        report.warn(
          folder, sample,
          "\(other) was made by another tool, and training may read it instead of \(file.path). "
            + "Remove it")
      }
      report.counts[folder, default: .init()].encoded += 1
    } catch let error as TensorFileError {
      report.add(folder, sample, describe(error), plan.check)
      // A name that the file system can't store fails one sample; a full disk fails all.
      guard OutputFolder.hasRoom(plan.outputFolder) else { throw error }
    }
  }

  /// Whether an error of `run` means that the output can't be written.
  public static func isWritingFailure(_ error: any Error) -> Bool {
    error is WritingError || (error as? TensorFileError)?.kind == .notWritten
  }
}

extension Clip.Correction {
  /// A sentence about the clips that were corrected.
  fileprivate func note(_ count: Int) -> String {
    let (clips, were) = count == 1 ? ("1 clip", "was") : ("\(count) clips", "were")
    return switch self {
    case .turned: "\(clips) \(were) rotated or mirrored as the metadata say; upstream ignores them"
    case .deinterlaced:
      "\(clips) \(count == 1 ? "is" : "are") interlaced and \(were) deinterlaced, which can be "
        + "switched off"
    case .reshaped:
      "\(clips) \(count == 1 ? "has" : "have") non-square pixels and \(were) brought to the true "
        + "aspect ratio; upstream squeezes the image"
    }
  }
}
