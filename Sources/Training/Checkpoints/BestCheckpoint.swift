import Datasets
import Foundation
import Support
import Tracking

/// The checkpoint with the lowest validation loss of a run: `checkpoints/best.json`.
///
/// The file is written after the weights that it names, so it never names incomplete weights.
struct BestCheckpoint: Codable, Sendable, Equatable {
  /// The number of completed steps.
  var step: Int
  var loss: Double
  var videoLoss: Double?
  var audioLoss: Double?
  /// The name of the weights file, next to `best.json`.
  var weights: String
  /// The averaged weights, relative to the folder of `best.json`; nil without `ema_decay`. The loss
  /// was measured on them.
  var averagedWeights: String?
  /// Identifies the samples, noise and sigmas that the loss was measured on.
  var validationSet: String
  /// Whether the checkpoint was only saved because its loss was the lowest, between two regular
  /// ones.
  var isExtra: Bool

  enum CodingKeys: String, CodingKey {
    case step, weights
    case loss = "validation_loss"
    case videoLoss = "validation_video_loss"
    case audioLoss = "validation_audio_loss"
    case averagedWeights = "averaged_weights"
    case validationSet = "validation_set"
    case isExtra = "is_extra"
  }

  /// - Throws: `Issue` if the file can't be read.
  init(path: String) throws {
    do {
      self = try JSON.decode(Self.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Issue([.file(path)], "can't be read as the record of the best checkpoint")
    }
  }

  /// - Parameters:
  ///   - record: the validation at the checkpoint's step, with a finite loss.
  ///   - validationSet: the value of `Trainer.validationSet`.
  ///   - isAveraged: whether the run also saves averaged weights.
  ///   - isExtra: whether it is saved only because its loss is the lowest.
  init(
    _ record: ValidationRecord, in folder: RunFolder, validationSet: String, isAveraged: Bool,
    isExtra: Bool
  ) {
    (step, loss, videoLoss, audioLoss) = (
      record.step, record.loss, record.videoLoss, record.audioLoss
    )
    weights = (folder.weights(step: step) as NSString).lastPathComponent
    averagedWeights =
      isAveraged ? "../\((folder.averages as NSString).lastPathComponent)/\(weights)" : nil
    self.validationSet = validationSet
    self.isExtra = isExtra
  }

  /// Writes the file atomically.
  func write(to path: String) throws {
    // JSON can't hold non-finite numbers; `isImprovement` rejects them as the total.
    var copy = self
    copy.videoLoss = videoLoss.flatMap { $0.isFinite ? $0 : nil }
    copy.audioLoss = audioLoss.flatMap { $0.isFinite ? $0 : nil }
    let json = try JSON(encoding: copy).text(.pretty) + "\n"
    try AtomicFile.write(Data(json.utf8), to: path, isDurable: false)
  }

  /// Whether a validation is better than the best one so far. Step 0, the untrained weights, never
  /// becomes a checkpoint.
  static func isImprovement(_ record: ValidationRecord, over best: BestCheckpoint?) -> Bool {
    record.step > 0 && record.loss.isFinite && record.loss < best?.loss ?? .infinity
  }
}

extension Trainer {
  /// The best checkpoint of an earlier start of the run, if it can still be compared with later
  /// ones.
  ///
  /// - Parameter validationSet: the validation set of this start.
  func earlierBest(_ validationSet: String) -> BestCheckpoint? {
    guard completedSteps > 0, FileManager.default.fileExists(atPath: folder.best) else {
      return nil
    }
    let best: BestCheckpoint
    do {
      best = try BestCheckpoint(path: folder.best)
    } catch {
      warn("\(error). The best checkpoint is chosen from the remaining steps.")
      return nil
    }
    // A step that will be repeated is measured again.
    guard best.step <= completedSteps,
      FileManager.default.fileExists(atPath: folder.weights(step: best.step))
    else { return nil }
    guard best.validationSet == validationSet else {
      warn(
        "\(folder.best): the best checkpoint so far (step \(best.step)) was measured on other validation samples. "
          + "The best checkpoint is chosen from the remaining steps.")
      return nil
    }
    return best
  }
}
