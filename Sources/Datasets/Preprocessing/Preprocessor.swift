import Foundation
import Generation
import LTX
import Media
import Support
import TensorFiles
import Torch

/// How far preprocessing has come.
public enum PreprocessingEvent: Sendable {
  public enum Phase: Sendable { case captions, media }

  /// The models are being loaded; `total` samples follow, the others being cached already.
  case loading(Phase, total: Int)
  case advanced(Phase, done: Int, total: Int)
}

/// Turns clips, sounds and captions into the latents and text features that training reads (the
/// reference's dataset scripts). `docs/preprocessing.md` describes the files.
///
/// Each file appears whole or not at all and carries its `Fingerprint`, so that a run which was cut
/// off goes on where it stood. The text encoder is gone before the VAEs are loaded; files are read
/// ahead of them.
public final class Preprocessor {
  private let plan: PreprocessingPlan
  private let notify: (PreprocessingEvent) -> Void
  private let shouldStop: () -> Bool
  private var report: PreprocessingReport

  /// - Parameter shouldStop: asked after each sample; the work ends there, and a rerun goes on.
  public init(
    _ plan: PreprocessingPlan, notify: @escaping (PreprocessingEvent) -> Void = { _ in },
    shouldStop: @escaping () -> Bool = { false }
  ) {
    self.plan = plan
    self.notify = notify
    self.shouldStop = shouldStop
    report = plan.report
  }

  /// Does the work and writes the report, whatever the end.
  ///
  /// - Throws: what loading the models throws; `PreprocessingError` of kind `.writing`;
  ///   `TorchError` when memory runs out. A sample that can't be used is no error: it is in the
  ///   report.
  public func run() throws -> PreprocessingReport {
    let began = Date()
    do {
      try makeFolder(plan.outputFolder)
      try writeRepeats()
      for work in plan.work {
        for folder in work.upToDate { report.counts[folder, default: .init()].upToDate += 1 }
        if work.pending.isEmpty { report.upToDate += 1 }
      }
      try encodeCaptions()
      if !isStopped { try encodeMedia() }
      if isStopped { report.interruption = "stopped by a signal; run again to go on" }
    } catch {
      report.interruption = describe(error)
      finish(began)
      throw error
    }
    finish(began)
    try report.write(share: plan.options.share)
    return report
  }

  /// What is known so far.
  public var currentReport: PreprocessingReport { report }

  private var isStopped = false
  /// How many clips were shown otherwise than by the reference.
  private var corrected: [Clip.Correction: Int] = [:]

  private func finish(_ began: Date) {
    report.seconds = Date().timeIntervalSince(began)
    report.sort()
    for correction in Clip.Correction.allCases {
      guard let count = corrected[correction] else { continue }
      let clips = count == 1 ? "1 clip" : "\(count) clips"
      switch correction {
      case .turned:
        report.notes.append(
          "\(clips) \(count == 1 ? "was" : "were") rotated or mirrored as the file asks; --compat does not"
        )
      case .deinterlaced:
        report.notes.append(
          "\(clips) \(count == 1 ? "is" : "are") interlaced, and \(count == 1 ? "was" : "were") deinterlaced; "
            + "--deinterlace off leaves them unchanged")
      case .reshaped:
        report.notes.append(
          "\(clips) \(count == 1 ? "has" : "have") pixels that are no squares, and \(count == 1 ? "is" : "are") shown in "
            + "true shape; --compat squeezes the picture")
      }
    }
    noteSilentAudio()
    do {
      try plan.hashes.save()
    } catch {
      report.notes.append(
        "the hashes of the sources could not be stored, and will be computed again: \(describe(error))"
      )
    }
    guard report.interruption != nil else { return }
    do {
      try report.write(share: plan.options.share)
    } catch {
      report.notes.append(describe(error))
    }
  }

  /// Counts samples with silent audio, whether this run has encoded them or an earlier one.
  private func noteSilentAudio() {
    var levels: [String: SampleLevel] = [:]
    for work in plan.work where plan.check.wanted(work.sample).contains(.audioLatents) {
      let fingerprint = plan.check.file(.audioLatents, work.sample).fingerprint
      levels[work.sample.name] = fingerprint.flatMap { SampleLevel(metadata: $0.fields) }
    }
    let silent = SilentAudio(levels)
    report.withSilentAudio = silent.names.count
    if let note = silent.note { report.notes.append(note) }
  }

  private func writeRepeats() throws {
    do {
      try plan.repeats?.write(cache: plan.outputFolder)
    } catch {
      throw PreprocessingError(
        .writing, file: plan.outputFolder, "the repeats can't be stored: \(describe(error))")
    }
  }

  // MARK: Captions

  private func encodeCaptions() throws {
    let pending = plan.work.filter { $0.pending.contains(.conditions) }
    let emptyPrompt = plan.pendingEmptyPrompt
    guard !pending.isEmpty || emptyPrompt != nil else { return }
    // Captions that are equal to the letter are encoded once; the tokenizer tells apart what
    // Unicode calls equivalent.
    let works = Dictionary(grouping: pending) { Array($0.prompt.utf8) }
      .values.sorted { $0[0].sample.index < $1[0].sample.index }
    notify(.loading(.captions, total: pending.count))
    let options = plan.options
    let encoder = try plan.checkpoint.promptEncoder(
      dtype: options.dtype, device: options.device,
      storage: options.textEncoder8bit ? .int8 : .asStored)
    if let emptyPrompt {
      _ = try emptyPrompt.write(
        Self.values(encoder([""])), plan.check.rules.conditions(prompt: ""))
    }
    var done = 0
    notify(.advanced(.captions, done: 0, total: pending.count))
    for group in works {
      let prompt = group[0].prompt
      let features = try encoder([prompt])
      let excess = try encoder.excessTokens(prompt)
      for work in group {
        guard try features.video.isAllFinite() else {
          throw PreprocessingError(
            .model, file: options.models.name,
            "the text features of \"\(work.sample.media)\" are not finite numbers: the weights are damaged, or too "
              + "large for \(options.dtype)")
        }
        if excess > 0 {
          report.warn(
            .conditions, work.sample,
            "\(work.sample.media): its caption is \(excess) tokens too long, and was cut")
        }
        try store(
          Self.values(features), .conditions, work.sample,
          plan.check.rules.storedConditions(prompt: prompt))
        done += 1
        notify(.advanced(.captions, done: done, total: pending.count))
      }
      if shouldStop() {
        isStopped = true
        return
      }
    }
  }

  private static func values(_ features: TextFeatures) throws -> [(
    key: String, value: PickleValue
  )] {
    [
      ("video_prompt_embeds", .tensor(try features.video.squeeze(0))),
      ("audio_prompt_embeds", .tensor(try features.audio.squeeze(0))),
      ("prompt_attention_mask", .tensor(try features.mask.squeeze(0))),
    ]
  }

  // MARK: Media

  private func encodeMedia() throws {
    let pending = plan.work.filter { !$0.pending.subtracting([.conditions]).isEmpty }
    guard !pending.isEmpty else { return }
    let folders = pending.reduce(into: Set<CacheFolder>()) { $0.formUnion($1.pending) }
    notify(.loading(.media, total: pending.count))
    let encoder = try MediaEncoder(plan, folders)
    let options = plan.options
    let batchSize = max(1, options.batchSize)
    let reader = SampleReader(
      options: options, check: plan.check, hashes: plan.hashes, factors: plan.factors)
    let samples = ReadAhead(count: pending.count, capacity: batchSize, threads: Self.readers) {
      reader.read(pending[$0])
    }
    var done = 0
    notify(.advanced(.media, done: 0, total: pending.count))
    while done < pending.count {
      var batch: [PreparedSample] = []
      while batch.count < batchSize, done + batch.count < pending.count {
        batch.append(samples.next())
      }
      try take(batch, encoder)
      done += batch.count
      notify(.advanced(.media, done: done, total: pending.count))
      if shouldStop() {
        isStopped = true
        return
      }
    }
  }

  /// Files that are read at a time: one beside each few of the processors, which decoding and
  /// resizing share with the models.
  private static let readers = max(1, min(4, ProcessInfo.processInfo.activeProcessorCount / 2))

  private func take(_ batch: [PreparedSample], _ encoder: MediaEncoder) throws {
    let latents = try encoder.latents(batch)
    for (index, sample) in batch.enumerated() {
      if let fatal = sample.fatal { throw fatal }
      let work = sample.work
      for folder in sample.upToDate.subtracting(work.upToDate) {
        report.counts[folder, default: .init()].upToDate += 1
      }
      for (folder, reason) in sample.failures {
        report.add(folder, work.sample, reason, plan.check)
      }
      for (folder, reason) in sample.warnings { report.warn(folder, work.sample, reason) }
      if sample.isSilent { report.withoutAudio += 1 }
      for correction in sample.corrections { corrected[correction, default: 0] += 1 }
      for (place, file) in sample.files.enumerated() {
        do {
          let values = try encoder.values(
            file, work.sample, latents[MediaEncoder.Place(sample: index, file: place)])
          guard let values else {
            report.add(
              file.folder, work.sample,
              "\(work.sample.media): its sound is not cached, and so its mask can't be made",
              plan.check)
            continue
          }
          guard try values.allSatisfy({ try $0.value.tensor?.isAllFinite() ?? true }) else {
            throw PreprocessingError(
              .model, file: work.sample.media,
              "its \(file.folder.noun) are not finite numbers: the weights are damaged, or too large for "
                + "\(plan.options.dtype)")
          }
          try store(values, file.folder, work.sample, file.fingerprint)
        } catch let error as TorchError where error.kind == .outOfMemory {
          throw error
        } catch let error as PreprocessingError where error.kind == .writing {
          throw error
        } catch let error as MediaError {
          report.add(file.folder, work.sample, describe(error), plan.check)
        } catch {
          report.add(
            file.folder, work.sample,
            "\(work.sample.media): \(file.folder.noun): \(describe(error))",
            plan.check)
        }
      }
    }
  }

  // MARK: Files

  private func store(
    _ values: [(key: String, value: PickleValue)], _ folder: CacheFolder, _ sample: DatasetSample,
    _ fingerprint: Fingerprint
  ) throws {
    let file = plan.check.file(folder, sample)
    do {
      if let other = try file.write(values, fingerprint) {
        report.warn(
          folder, sample,
          "\(other) is of another tool; training may find it in place of \(file.path): remove it")
      }
      report.counts[folder, default: .init()].encoded += 1
    } catch let error as TensorFileError {
      report.add(folder, sample, describe(error), plan.check)
      // A name that the file system can't hold is one sample's problem; a full disk is everyone's.
      guard OutputFolder.hasRoom(plan.outputFolder) else {
        throw PreprocessingError(
          .writing, file: plan.outputFolder,
          "the disk is full, or can't be written to any more; free some space and try again")
      }
    }
  }

  private func makeFolder(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw PreprocessingError(
        .writing, file: path,
        "the folder can't be made: \(reason(of: error)); choose another --output-dir")
    }
  }
}
