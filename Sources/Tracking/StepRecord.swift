import Foundation

/// The record of one optimizer step; a line of `metrics.jsonl`.
public struct StepRecord: Sendable, Equatable {
  /// The number of the step, from 1.
  public var step: Int
  /// The number of passes through the dataset so far, including the fraction of the current one.
  public var epoch: Double?
  /// The mean loss over all samples of the step, before the update. Not finite if the step was
  /// skipped for that reason.
  public var loss: Double
  /// The mean losses by bucket of sigma, such as `0.00-0.25`; only buckets with a sample.
  public var sigmaLosses: [String: Double]
  /// The parts of the loss, if both modalities are trained.
  public var videoLoss: Double?
  public var audioLoss: Double?
  /// The norm over all gradients, before clipping.
  public var gradientNorm: Double
  public var learningRate: Double
  /// The rates by the names of groups, if groups of parameters have their own.
  public var learningRates: [String: Double]
  /// The seconds of the whole step.
  public var seconds: Double
  /// The seconds of the step's parts: waiting for data, forward, backward, optimizer. A GPU works
  /// in the background; the optimizer's part includes waiting for it, the others only queue.
  public var dataSeconds: Double?
  public var forwardSeconds: Double?
  public var backwardSeconds: Double?
  public var optimizerSeconds: Double?
  /// The time that saving delayed the loop since the previous step.
  public var savingSeconds: Double?
  /// The time from the end of the previous step to the start of this one: records, trackers,
  /// validation, saving.
  public var betweenSeconds: Double?
  /// The number of samples of the step, over all ranks.
  public var samples: Int?
  /// The memory of tensors on the device after the step.
  public var tensorBytes: Int?
  /// The reason why the step changed no weight, such as `non-finite loss`.
  public var skipped: String?

  public init(
    step: Int, epoch: Double? = nil, loss: Double, sigmaLosses: [String: Double] = [:],
    videoLoss: Double? = nil, audioLoss: Double? = nil, gradientNorm: Double, learningRate: Double,
    learningRates: [String: Double] = [:], seconds: Double, dataSeconds: Double? = nil,
    forwardSeconds: Double? = nil, backwardSeconds: Double? = nil, optimizerSeconds: Double? = nil,
    savingSeconds: Double? = nil, betweenSeconds: Double? = nil, samples: Int? = nil,
    tensorBytes: Int? = nil,
    skipped: String? = nil
  ) {
    self.step = step
    self.epoch = epoch
    self.loss = loss
    self.sigmaLosses = sigmaLosses
    self.videoLoss = videoLoss
    self.audioLoss = audioLoss
    self.gradientNorm = gradientNorm
    self.learningRate = learningRate
    self.learningRates = learningRates
    self.seconds = seconds
    self.dataSeconds = dataSeconds
    self.forwardSeconds = forwardSeconds
    self.backwardSeconds = backwardSeconds
    self.optimizerSeconds = optimizerSeconds
    self.savingSeconds = savingSeconds
    self.betweenSeconds = betweenSeconds
    self.samples = samples
    self.tensorBytes = tensorBytes
    self.skipped = skipped
  }
}

/// The loss on held-out samples after a step; a line of `metrics.jsonl`.
public struct ValidationRecord: Sendable, Equatable {
  /// The number of completed steps; 0 before the first.
  public var step: Int
  /// The mean loss over the held-out samples at their fixed noise and sigmas; video and audio are
  /// added if both are generated.
  public var loss: Double
  /// The video's part; nil if no video is generated.
  public var videoLoss: Double?
  /// The audio's part; nil if no audio is generated.
  public var audioLoss: Double?
  /// The losses by bucket of sigma, such as `0.00-0.25`.
  public var sigmaLosses: [String: Double]
  public var seconds: Double

  public init(
    step: Int, loss: Double, videoLoss: Double? = nil, audioLoss: Double? = nil,
    sigmaLosses: [String: Double] = [:], seconds: Double
  ) {
    self.step = step
    self.loss = loss
    self.videoLoss = videoLoss
    self.audioLoss = audioLoss
    self.sigmaLosses = sigmaLosses
    self.seconds = seconds
  }
}

extension ValidationRecord {
  /// The losses as a log shows them: `step 20: validation loss 1.8042 (video 0.7410, audio
  /// 1.0632)`.
  public var line: String {
    let parts = [("video", videoLoss), ("audio", audioLoss)].compactMap { name, loss in
      loss.map { "\(name) \(measured($0))" }
    }
    let both = parts.count == 2 ? " (\(parts.joined(separator: ", ")))" : ""
    return "step \(step): validation loss \(measured(loss))\(both)"
  }
}

// JSON has no numbers that are not finite, so they are null.

extension StepRecord: Codable {
  enum CodingKeys: String, CodingKey {
    case step, epoch, loss, seconds, samples, skipped
    case sigmaLosses = "loss_sigma"
    case videoLoss = "video_loss"
    case audioLoss = "audio_loss"
    case gradientNorm = "gradient_norm"
    case learningRate = "learning_rate"
    case learningRates = "learning_rates"
    case dataSeconds = "data_seconds"
    case forwardSeconds = "forward_seconds"
    case backwardSeconds = "backward_seconds"
    case optimizerSeconds = "optimizer_seconds"
    case savingSeconds = "saving_seconds"
    case betweenSeconds = "between_seconds"
    case tensorBytes = "tensor_bytes"
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      step: try values.decode(Int.self, forKey: .step), epoch: try values.optional(.epoch),
      loss: try values.number(.loss), sigmaLosses: try values.numbers(.sigmaLosses),
      videoLoss: try values.optional(.videoLoss), audioLoss: try values.optional(.audioLoss),
      gradientNorm: try values.number(.gradientNorm),
      learningRate: try values.number(.learningRate),
      learningRates: try values.numbers(.learningRates), seconds: try values.number(.seconds),
      dataSeconds: try values.optional(.dataSeconds),
      forwardSeconds: try values.optional(.forwardSeconds),
      backwardSeconds: try values.optional(.backwardSeconds),
      optimizerSeconds: try values.optional(.optimizerSeconds),
      savingSeconds: try values.optional(.savingSeconds),
      betweenSeconds: try values.optional(.betweenSeconds),
      samples: try values.decodeIfPresent(Int.self, forKey: .samples),
      tensorBytes: try values.decodeIfPresent(Int.self, forKey: .tensorBytes),
      skipped: try values.decodeIfPresent(String.self, forKey: .skipped))
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(step, forKey: .step)
    try values.encode(optional: epoch, .epoch)
    try values.encode(number: loss, .loss)
    try values.encode(numbers: sigmaLosses, .sigmaLosses)
    try values.encode(optional: videoLoss, .videoLoss)
    try values.encode(optional: audioLoss, .audioLoss)
    try values.encode(number: gradientNorm, .gradientNorm)
    try values.encode(number: learningRate, .learningRate)
    try values.encode(numbers: learningRates, .learningRates)
    try values.encode(number: seconds, .seconds)
    try values.encode(optional: dataSeconds, .dataSeconds)
    try values.encode(optional: forwardSeconds, .forwardSeconds)
    try values.encode(optional: backwardSeconds, .backwardSeconds)
    try values.encode(optional: optimizerSeconds, .optimizerSeconds)
    try values.encode(optional: savingSeconds, .savingSeconds)
    try values.encode(optional: betweenSeconds, .betweenSeconds)
    try values.encodeIfPresent(samples, forKey: .samples)
    try values.encodeIfPresent(tensorBytes, forKey: .tensorBytes)
    try values.encodeIfPresent(skipped, forKey: .skipped)
  }
}

extension ValidationRecord: Codable {
  enum CodingKeys: String, CodingKey {
    case step
    case loss = "validation_loss"
    case videoLoss = "validation_video_loss"
    case audioLoss = "validation_audio_loss"
    case sigmaLosses = "validation_loss_sigma"
    case seconds = "validation_seconds"
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      step: try values.decode(Int.self, forKey: .step), loss: try values.number(.loss),
      videoLoss: try values.optional(.videoLoss), audioLoss: try values.optional(.audioLoss),
      sigmaLosses: try values.numbers(.sigmaLosses), seconds: try values.number(.seconds))
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(step, forKey: .step)
    try values.encode(number: loss, .loss)
    try values.encode(optional: videoLoss, .videoLoss)
    try values.encode(optional: audioLoss, .audioLoss)
    try values.encode(numbers: sigmaLosses, .sigmaLosses)
    try values.encode(number: seconds, .seconds)
  }
}

extension KeyedDecodingContainer {
  /// Reads a number; null is NaN, and a missing key is an error.
  fileprivate func number(_ key: Key) throws -> Double {
    guard contains(key) else {
      throw DecodingError.keyNotFound(
        key, .init(codingPath: codingPath, debugDescription: "no \(key.stringValue)"))
    }
    return try decodeIfPresent(Double.self, forKey: key) ?? .nan
  }

  /// Reads a number; a missing key is nil.
  fileprivate func optional(_ key: Key) throws -> Double? { contains(key) ? try number(key) : nil }

  fileprivate func numbers(_ key: Key) throws -> [String: Double] {
    try decodeIfPresent([String: Double?].self, forKey: key)?.mapValues { $0 ?? .nan } ?? [:]
  }
}

extension KeyedEncodingContainer {
  fileprivate mutating func encode(number value: Double, _ key: Key) throws {
    if value.isFinite { try encode(value, forKey: key) } else { try encodeNil(forKey: key) }
  }

  fileprivate mutating func encode(optional value: Double?, _ key: Key) throws {
    if let value { try encode(number: value, key) }
  }

  fileprivate mutating func encode(numbers values: [String: Double], _ key: Key) throws {
    guard !values.isEmpty else { return }
    try encode(values.mapValues { $0.isFinite ? $0 : nil }, forKey: key)
  }
}
