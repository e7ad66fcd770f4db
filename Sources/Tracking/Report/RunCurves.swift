/// All curves of a run, collected step by step, so that a page can be made at any time without
/// reading the records again.
public struct RunCurves: Sendable {
  public private(set) var loss = Curve()
  public private(set) var meanLoss = Curve()
  public private(set) var videoLoss = Curve()
  public private(set) var audioLoss = Curve()
  /// Moving means by bucket of sigma.
  public private(set) var sigmaLosses: [String: Curve] = [:]
  public private(set) var gradientNorm = Curve()
  public private(set) var meanGradientNorm = Curve()
  public private(set) var learningRate = Curve()
  public private(set) var learningRates: [String: Curve] = [:]
  /// Memory in bytes.
  public private(set) var memory = Curve()
  public private(set) var stepSeconds = Curve()
  public private(set) var meanStepSeconds = Curve()
  public private(set) var validationLoss = Curve()
  public private(set) var validationVideoLoss = Curve()
  public private(set) var validationAudioLoss = Curve()
  public private(set) var validationSigmaLosses: [String: Curve] = [:]
  /// The steps that changed no weight.
  public private(set) var skippedSteps: [Int] = []
  public private(set) var timings = RunTimings()
  /// The number of completed steps.
  public private(set) var step = 0

  private var lossMean = MovingMean()
  private var secondsMean = MovingMean()
  private var gradientMean = MovingMean()
  private var videoMean = MovingMean()
  private var audioMean = MovingMean()
  private var sigmaMeans: [String: MovingMean] = [:]

  /// - Parameter metrics: the records of earlier starts of the run.
  public init(_ metrics: RecordedMetrics = RecordedMetrics()) {
    for record in metrics.steps { add(record) }
    for record in metrics.validations { add(record) }
  }

  public mutating func add(_ record: StepRecord) {
    step = record.step
    timings.add(record)
    func follow(_ mean: inout MovingMean, _ curve: inout Curve, _ value: Double?) {
      guard let value, value.isFinite else { return }
      mean.add(value)
      curve.add(mean.value ?? value, at: record.step)
    }
    stepSeconds.add(record.seconds, at: record.step)
    follow(&secondsMean, &meanStepSeconds, record.seconds)
    if let bytes = record.tensorBytes { memory.add(Double(bytes), at: record.step) }
    learningRate.add(record.learningRate, at: record.step)
    for (name, rate) in record.learningRates {
      learningRates[name, default: Curve()].add(rate, at: record.step)
    }
    guard record.skipped == nil else {
      skippedSteps.append(record.step)
      return
    }
    loss.add(record.loss, at: record.step)
    follow(&lossMean, &meanLoss, record.loss)
    gradientNorm.add(record.gradientNorm, at: record.step)
    follow(&gradientMean, &meanGradientNorm, record.gradientNorm)
    follow(&videoMean, &videoLoss, record.videoLoss)
    follow(&audioMean, &audioLoss, record.audioLoss)
    for (label, value) in record.sigmaLosses {
      follow(
        &sigmaMeans[label, default: MovingMean()], &sigmaLosses[label, default: Curve()], value)
    }
  }

  public mutating func add(_ record: ValidationRecord) {
    timings.validation += record.seconds.isFinite ? record.seconds : 0
    validationLoss.add(record.loss, at: record.step)
    if let loss = record.videoLoss { validationVideoLoss.add(loss, at: record.step) }
    if let loss = record.audioLoss { validationAudioLoss.add(loss, at: record.step) }
    for (label, value) in record.sigmaLosses {
      validationSigmaLosses[label, default: Curve()].add(value, at: record.step)
    }
  }
}

/// The time of a run by activity, in seconds.
public struct RunTimings: Sendable, Equatable {
  public private(set) var steps = 0
  /// The time of all steps, including the time outside of the listed parts.
  public private(set) var total = 0.0
  public private(set) var data = 0.0
  public private(set) var forward = 0.0
  public private(set) var backward = 0.0
  public private(set) var optimizer = 0.0
  public private(set) var saving = 0.0
  /// The time of validation losses and samples.
  public var validation = 0.0

  mutating func add(_ record: StepRecord) {
    steps += 1
    func finite(_ seconds: Double?) -> Double { seconds.flatMap { $0.isFinite ? $0 : nil } ?? 0 }
    total += finite(record.seconds)
    data += finite(record.dataSeconds)
    forward += finite(record.forwardSeconds)
    backward += finite(record.backwardSeconds)
    optimizer += finite(record.optimizerSeconds)
    saving += finite(record.savingSeconds)
  }

  /// Each part with its seconds, without those that took no time.
  var parts: [(name: String, seconds: Double)] {
    [
      ("data", data), ("forward", forward), ("backward", backward), ("optimizer", optimizer),
      ("rest of the steps", max(0, total - data - forward - backward - optimizer)),
      ("saving", saving),
      ("validation", validation),
    ].filter { $0.1 > 0 }
  }
}
