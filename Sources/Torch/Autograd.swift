import CTorch

extension Tensor {
  /// Whether operations on the tensor are recorded for differentiation.
  public var requiresGrad: Bool { ct_tensor_requires_grad(handle) }

  /// Whether the tensor is an input of the graph, not a result.
  public var isLeaf: Bool { ct_tensor_is_leaf(handle) }

  /// A leaf tensor that shares this one's memory and records operations from now on.
  public func asLeaf() throws -> Tensor {
    let leaf = try detach()
    try check(ct_tensor_set_requires_grad(leaf.handle, true))
    return leaf
  }
}

/// Gradients of `outputs` with respect to `inputs`, in their order; nil for an input that the
/// outputs don't depend on.
///
/// The gradients are only returned, never accumulated in the tensors.
///
/// - Parameters:
///   - outputs: Tensors with a graph.
///   - inputs: Leaves or intermediate results of that graph.
///   - gradOutputs: The gradients with respect to the outputs; if omitted, each output must be a
///     scalar, and its gradient is 1.
///   - retainGraph: Keeps the graph for another call.
/// - Throws: `TorchError` of kind `.autograd` if there is no graph or it was freed.
public func grad(
  of outputs: [Tensor], wrt inputs: [Tensor], gradOutputs: [Tensor]? = nil,
  retainGraph: Bool = false
) throws -> [Tensor?] {
  precondition(gradOutputs == nil || gradOutputs?.count == outputs.count, "one gradient per output")
  var results = [OpaquePointer?](repeating: nil, count: inputs.count)
  try withHandles(outputs) { outputHandles, outputCount in
    try withHandles(inputs) { inputHandles, inputCount in
      try withHandles(gradOutputs ?? []) { gradHandles, _ in
        try results.withUnsafeMutableBufferPointer {
          try check(
            ct_grad(
              outputHandles, outputCount, inputHandles, inputCount,
              gradOutputs == nil ? nil : gradHandles,
              retainGraph, $0.baseAddress))
        }
      }
    }
  }
  return results.map { $0.map(Tensor.init(owning:)) }
}

/// Runs `body` without recording operations for differentiation.
///
/// The scope belongs to the calling thread, so `body` is synchronous.
public func withoutGrad<R>(_ body: () throws -> R) rethrows -> R {
  try withGradMode(false, body)
}

/// Runs `body` recording operations, also inside `withoutGrad`.
public func withGrad<R>(_ body: () throws -> R) rethrows -> R {
  try withGradMode(true, body)
}

private func withGradMode<R>(_ enabled: Bool, _ body: () throws -> R) rethrows -> R {
  let before = ct_grad_mode_get()
  ct_grad_mode_set(enabled)
  defer { ct_grad_mode_set(before) }
  return try body()
}

/// Runs `body` in inference mode: cheaper than `withoutGrad`, but tensors created inside can never
/// be part of a graph.
public func withInference<R>(_ body: () throws -> R) rethrows -> R {
  let guardian = ct_inference_begin()
  defer { ct_inference_end(guardian) }
  return try body()
}

/// Runs `body` under autocast: matrix products and convolutions compute in `dtype`, operations that
/// need a wide range in float32, by the rules of PyTorch's `torch.autocast`.
public func withAutocast<R>(_ dtype: DType, on device: Device, _ body: () throws -> R) throws -> R {
  let kind = device.c.kind
  let before = ct_autocast_get(kind)
  try check(ct_autocast_set(kind, ct_autocast_state(enabled: true, dtype: dtype.c)))
  defer {
    if !before.enabled { ct_autocast_clear_cache() }
    // Restoring the previous state can't fail, since the kind of device was just accepted.
    _ = ct_autocast_set(kind, before)
  }
  return try body()
}

/// Runs `body` in the dtypes of its tensors, even inside `withAutocast`.
public func withoutAutocast<R>(on device: Device, _ body: () throws -> R) throws -> R {
  let kind = device.c.kind
  let before = ct_autocast_get(kind)
  guard before.enabled else { return try body() }
  try check(ct_autocast_set(kind, ct_autocast_state(enabled: false, dtype: before.dtype)))
  // Restoring the previous state can't fail, since the kind of device was just accepted.
  defer { _ = ct_autocast_set(kind, before) }
  return try body()
}
