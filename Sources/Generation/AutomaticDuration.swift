import LTX
import Support

/// The range in which the model chooses the length of each video by its prompt.
public struct AutomaticDuration: Sendable, Equatable {
  public var minSeconds: Double
  public var maxSeconds: Double

  public init(minSeconds: Double, maxSeconds: Double) {
    self.minSeconds = minSeconds
    self.maxSeconds = maxSeconds
  }

  /// - Throws: `Issue` for a range that is empty, or that no video can have.
  func check() throws {
    guard minSeconds > 0, minSeconds <= maxSeconds, maxSeconds <= RequestCheck.maxSeconds else {
      throw Issue(
        ["duration"],
        "must be a range of seconds between 0 and \(Int(RequestCheck.maxSeconds)) (got "
          + "\(minSeconds) to \(maxSeconds))", suggestion: "Give the shorter length first.")
    }
  }

  /// The number of frames for a predicted length: within the range, and one that the model has.
  func frames(seconds: Double, frameRate: Double, factors: CompressionFactors) -> Int {
    let frames = DurationHead.frames(
      seconds: seconds, frameRate: frameRate, minSeconds: minSeconds, maxSeconds: maxSeconds,
      factors: factors)
    // A range that holds no length of this form gives its own max.
    return (frames - 1) / factors.time * factors.time + 1
  }
}

extension GenerationPlan {
  /// The plans of the prompts' videos, each with the contexts of its prompts and of the negative
  /// one. Prompts for which the model predicts the same length share a plan; without a duration to
  /// predict there is one plan.
  ///
  /// - Parameter contexts: The contexts of the plan's `inputs.prompts`.
  /// - Throws: The errors of the duration head, and of planning with the predicted length.
  func parts(_ contexts: [TextContexts]) throws -> [(plan: GenerationPlan, inputs: EncodedInputs)] {
    guard let duration = request.duration else {
      return [(self, EncodedInputs(contexts: contexts))]
    }
    let head = try checkpoint.durationHead(dtype: models.dtype, device: models.device)
    let factors = try checkpoint.videoCompression()
    // The stages' frame rate, which rounds of the detailing recipe multiply.
    let rate = samplings.first?.video?.fps ?? size.frameRate.value
    let frames = try contexts.prefix(outputs.count).map {
      duration.frames(
        seconds: try head($0).item(), frameRate: rate, factors: factors)
    }
    let negative = contexts.dropFirst(outputs.count)
    return try Set(frames).sorted().map { length in
      let own = frames.indices.filter { frames[$0] == length }
      var part = request
      part.prompts = own.map { inputs.prompts[$0] }
      (part.frames, part.duration) = (length, nil)
      let plan = try GenerationPlan(
        part, models: models, output: outputs[own[0]], checksModels: false)
      return (
        plan.writing(to: own.map { outputs[$0] }),
        EncodedInputs(contexts: own.map { contexts[$0] } + negative)
      )
    }
  }
}
