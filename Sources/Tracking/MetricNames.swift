/// The names of a run's scalars: the official trainer's if it has the value, otherwise ours in the
/// same style.
public enum MetricNames {
  public static let loss = "train/loss"
  public static let learningRate = "train/learning_rate"
  public static let stepTime = "train/step_time"
  public static let globalStep = "train/global_step"
  public static let gradientNorm = "train/gradient_norm"
  public static let validationLoss = "validation/loss"
  public static let validationVideoLoss = "validation/video_loss"
  public static let validationAudioLoss = "validation/audio_loss"

  /// - Parameter label: the bucket's label, such as `0.00-0.25`.
  public static func loss(ofSigmas label: String, prefix: String = "train") -> String {
    "\(prefix)/loss_sigma_\(label)"
  }
}

extension StepRecord {
  /// The values of a step for trackers. Values that are not finite are left out.
  public var scalars: [(name: String, value: Double)] {
    var values: [(name: String, value: Double?)] = [
      (MetricNames.loss, loss), (MetricNames.learningRate, learningRate),
      (MetricNames.stepTime, seconds),
      (MetricNames.globalStep, Double(step)),
    ]
    values += sigmaLosses.sorted { $0.key < $1.key }.map {
      (MetricNames.loss(ofSigmas: $0.key), $0.value)
    }
    values += [
      (MetricNames.gradientNorm, gradientNorm), ("train/video_loss", videoLoss),
      ("train/audio_loss", audioLoss), ("train/epoch", epoch),
    ]
    values += learningRates.sorted { $0.key < $1.key }.map {
      ("train/learning_rate_\($0.key)", $0.value)
    }
    values += [
      ("train/data_time", dataSeconds), ("train/forward_time", forwardSeconds),
      ("train/backward_time", backwardSeconds), ("train/optimizer_time", optimizerSeconds),
      ("train/memory_gb", tensorBytes.map { Double($0) / 0x1p30 }),
      ("train/skipped", skipped == nil ? nil : 1),
    ]
    return finite(values)
  }
}

extension ValidationRecord {
  /// The values of a validation for trackers. Values that are not finite are left out.
  public var scalars: [(name: String, value: Double)] {
    finite(
      [
        (MetricNames.validationLoss, loss), (MetricNames.validationVideoLoss, videoLoss),
        (MetricNames.validationAudioLoss, audioLoss),
      ]
        + sigmaLosses.sorted { $0.key < $1.key }.map {
          (MetricNames.loss(ofSigmas: $0.key, prefix: "validation"), $0.value)
        })
  }
}

/// The values that the official trainer logs at the end of a run.
public struct RunStatistics: Sendable, Equatable {
  public var totalSeconds: Double
  /// The number of steps in this start, without earlier ones.
  public var steps: Int
  public var samples: Int
  public var peakBytes: Int

  public init(totalSeconds: Double, steps: Int, samples: Int, peakBytes: Int) {
    self.totalSeconds = totalSeconds
    self.steps = steps
    self.samples = samples
    self.peakBytes = peakBytes
  }

  /// `1:05 min`
  public var time: String { timeText(totalSeconds) }

  public var scalars: [(name: String, value: Double)] {
    finite([
      ("stats/total_time_minutes", totalSeconds / 60),
      ("stats/steps_per_second", Double(steps) / totalSeconds),
      ("stats/samples_per_second", Double(samples) / totalSeconds),
      ("stats/peak_gpu_memory_gb", Double(peakBytes) / 0x1p30),
    ])
  }
}

private func finite(_ values: [(name: String, value: Double?)]) -> [(name: String, value: Double)] {
  values.compactMap { item in item.value.flatMap { $0.isFinite ? (item.name, $0) : nil } }
}
