// B batch, T tokens, C latent channels.

import BlockExecution
import NN
import Support
import Torch

/// A forward and a backward pass through the transformer under an execution plan.
public struct TrainingStep: Sendable {
  public let transformer: Transformer
  public let plan: ExecutionPlan
  /// The trained tensors outside the blocks.
  private let endParameters: [Parameter]

  public init(transformer: Transformer, plan: ExecutionPlan) {
    self.transformer = transformer
    self.plan = plan
    let inBlocks = Set(transformer.blocks.blocks.flatMap { $0.parameters.map(\.key) })
    endParameters = transformer.parameters.filter { !inBlocks.contains($0.key) }
  }

  /// The velocities of the given modalities, [B, T, C], without gradients.
  ///
  /// - Throws: `Issue` without a modality, `TorchError`.
  public func velocities(_ inputs: PerModality<ModalityInput?>) throws -> PerModality<Tensor?> {
    try withoutGrad {
      try plan.inPrecision(on: Self.device(of: inputs)) { try transformer(inputs) }
    }
  }

  /// The result of a forward and backward pass.
  public struct Pass<Losses> {
    /// The values that the objective returned besides the minimized scalar.
    public let losses: Losses
    /// The gradients of that scalar, by parameter key.
    public let gradients: [String: Tensor]
    /// The time of the forward pass; on a device that runs asynchronously, the time to queue it.
    public let forwardSeconds: Double
  }

  /// Runs the transformer forward, and an objective's scalar backward through it.
  ///
  /// - Parameters:
  ///   - take: Called with the gradients of each block as soon as they are there, and last with
  ///     those of the tensors outside of the blocks; the result has none then.
  ///   - objective: Computes, from the velocities, the scalar to minimize, with its graph, and other
  ///     values for the caller, without a graph.
  /// - Throws: `Issue` without a modality, `TorchError`, the errors of `objective`.
  public func callAsFunction<Losses>(
    _ inputs: PerModality<ModalityInput?>, taking take: GradientSink? = nil,
    minimizing objective: (PerModality<Tensor?>) throws -> (scalar: Tensor, losses: Losses)
  ) throws -> Pass<Losses> {
    let start = ContinuousClock.now
    let device = try Self.device(of: inputs)
    let prepared = try plan.inPrecision(on: device) {
      try transformer.prepare(inputs)
    }
    let pass = try transformer.blocks.forward(prepared.states, prepared.conditioning, plan: plan)
    let velocity = try plan.inPrecision(on: device) {
      try transformer.finish(pass.output, prepared)
    }
    let (scalar, losses) = try objective(velocity)
    let forward = (ContinuousClock.now - start) / .seconds(1)

    // Backward from the loss to the last block's output, and to the trained tensors after the
    // blocks.
    let outputs = pass.output.tensors
    let active = outputs.indices.filter { outputs[$0].requiresGrad }
    let ends = endParameters.map(\.tensor)
    var gradients: [String: Tensor] = [:]
    guard !active.isEmpty || !ends.isEmpty else {  // nothing is trained
      return Pass(losses: losses, gradients: gradients, forwardSeconds: forward)
    }
    let found = try grad(
      of: [scalar], wrt: active.map { outputs[$0] } + ends,
      retainGraph: !ends.isEmpty)
    add(found.suffix(ends.count), to: &gradients)
    var outputGradients = [Tensor?](repeating: nil, count: outputs.count)
    for (position, index) in active.enumerated() { outputGradients[index] = found[position] }

    let below = try pass.backward(outputGradients, taking: take)
    gradients.merge(below.parameters) { $1 }

    // Backward from the first block's inputs to the trained tensors before the blocks.
    let inputs = zip(
      prepared.states.tensors + prepared.conditioning.tensors, below.state + below.shared
    )
    .filter { $0.requiresGrad && $1 != nil }
    if !ends.isEmpty, !inputs.isEmpty {
      let more = try grad(of: inputs.map(\.0), wrt: ends, gradOutputs: inputs.compactMap(\.1))
      for (parameter, gradient) in zip(endParameters, more) {
        guard let gradient else { continue }
        gradients[parameter.key] =
          try gradients[parameter.key].map { try $0 + gradient } ?? gradient
      }
    }
    if let take {
      try take(endParameters, gradients)
      gradients = [:]
    }
    return Pass(losses: losses, gradients: gradients, forwardSeconds: forward)
  }

  private func add(_ found: ArraySlice<Tensor?>, to gradients: inout [String: Tensor]) {
    for (parameter, gradient) in zip(endParameters, found) { gradients[parameter.key] = gradient }
  }

  private static func device(of inputs: PerModality<ModalityInput?>) throws -> Device {
    guard let input = inputs.values().first else {
      throw Issue("there is nothing to train: neither video nor audio is given")
    }
    return input.latent.device
  }
}
