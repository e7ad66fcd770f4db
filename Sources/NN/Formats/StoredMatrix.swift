// O outputs, I inputs of a linear layer.

import TensorFiles
import Torch

extension Weights {
  /// The weight of a linear layer, stored as the policy says.
  ///
  /// - Parameter shape: as in `tensor(_:shape:)`.
  func storedWeight(_ name: String, shape: [Int]) throws -> any StoredWeight {
    try quantizedMatrix(name, entry(name, shape: shape))
      ?? DenseWeight(slot(name, shape: shape))
  }

  /// The matrix of a linear layer in eight bits, where the policy leaves or makes it so; nil where
  /// it is to be a plain tensor.
  private func quantizedMatrix(_ name: String, _ entry: TensorEntry) throws -> QuantizedWeight? {
    guard store.trainedDType(key(name), entry) == nil else { return nil }
    let form = store.storage.isExcluded(path) ? .asStored : store.storage.form
    switch form {
    case .expanded: return nil
    case .asStored:
      return fusedAdapters(of: name).isEmpty
        ? try storedMatrix(name, entry, dtype: store.dtype)?.recorded(in: store) : nil
    case .rounded(let elements, let arithmetic):
      if fusedAdapters(of: name).isEmpty,
        let matrix = try storedMatrix(name, entry, dtype: store.dtype)
      {
        return matrix.recorded(in: store)
      }
      guard entry.dtype.isFloatingPoint || entry.dtype == .int8 else { return nil }
      defer { store.source.release(key(name)) }
      let matrix = try tensor(name)
      return try QuantizedWeight(
        rounding: matrix, to: elements, in: arithmetic ?? matrix.dtype, key: key(name)
      ).recorded(in: store)
    }
  }

  /// A tensor of eight-bit elements as the file has it, with its scale: `weight_scale` beside
  /// `weight`, or as older files of ComfyUI have it, `scale_weight`. Nil for other tensors.
  ///
  /// What `comfy_quant` says of the matrix is applied; scales of a layer's inputs, by which other
  /// programs multiply in eight bits, are not used.
  ///
  /// - Throws: `WeightError` for a scale that is not one positive number, or one for each row, and
  ///   for a description that does not fit the matrix; `ConfigurationError` for one that is not
  ///   supported.
  func storedMatrix(_ name: String, _ entry: TensorEntry, dtype: DType?) throws -> QuantizedWeight?
  {
    let scaleName = scaleName(of: name)
    let prefix = modulePrefix(of: name)
    let description = try prefix.flatMap { try store.source.quantizationDescription(key($0)) }
    guard entry.dtype.isEightBitFloat || scaleName != nil || description != nil else { return nil }
    if let prefix {
      for unused in ["input_scale", "scale_input", QuantizationDescription.tensorName]
      where has(prefix + unused) {
        store.markUsed(key(prefix + unused))
      }
    }
    // Values that are not in eight bits have a dtype of their own.
    let own: DType =
      entry.dtype.isFloatingPoint && !entry.dtype.isEightBitFloat ? entry.dtype : .bfloat16
    let factors = try scaleName.map { try scale($0, rows: entry.shape.first ?? 1) }
    if let description { try require(description, fits: entry, name, factors, scaleName) }
    return QuantizedWeight(
      elements: WeightSlot(key: key(name), tensor: try store.read(key(name), dtype: nil)),
      scale: scaleName.flatMap { name in
        factors.map { WeightSlot(key: key(name), tensor: $0) }
      }, dtype: dtype ?? own,
      rotation: try description?.rotationGroup.map { try store.rotation(group: $0) })
  }

  /// The scale beside a tensor.
  func scaleName(of name: String) -> String? {
    let older = modulePrefix(of: name).map { ["\($0)scale_weight"] } ?? []
    return (["\(name)_scale"] + older).first(where: has)
  }

  /// What precedes `weight` in a name: `embed_tokens.` or nothing; nil for other tensors.
  private func modulePrefix(of name: String) -> String? {
    name == "weight" || name.hasSuffix(".weight") ? String(name.dropLast("weight".count)) : nil
  }

  /// Checks that a description is one of this matrix.
  private func require(
    _ description: QuantizationDescription, fits entry: TensorEntry, _ name: String,
    _ scale: Tensor?,
    _ scaleName: String?
  ) throws {
    let format = description.format
    func fail(_ problem: String) -> WeightError {
      WeightError(file: store.source.file(of: key(name)), key: key(name), problem: problem)
    }
    guard entry.dtype == format.dtype else {
      throw fail(
        "is \(entry.dtype), but \(QuantizationDescription.tensorName) says \(format.rawValue) (expected "
          + "\(format.dtype)). \(PackedFormat.advice)")
    }
    guard let scale, let scaleName else {
      throw fail(
        "is \(format.rawValue) by \(QuantizationDescription.tensorName), but has no scale (expected "
          + "\(name)_scale). \(PackedFormat.advice)")
    }
    if let shape = description.shape, shape != entry.shape {
      throw fail(
        "has shape \(entry.shape), but \(QuantizationDescription.tensorName) says \(shape)")
    }
    let rows = entry.shape.first ?? 1
    if let isPerRow = description.hasScalePerRow, rows > 1, isPerRow != (scale.count == rows) {
      throw WeightError(
        file: store.source.file(of: key(scaleName)), key: key(scaleName),
        problem:
          "holds \(scale.count) \(scale.count == 1 ? "scale" : "scales"), but "
          + "\(QuantizationDescription.tensorName) says \(isPerRow ? "one for each row" : "one for the tensor")"
      )
    }
    if let group = description.rotationGroup {
      guard entry.shape.count == 2, entry.shape[1] > 0, entry.shape[1].isMultiple(of: group) else {
        throw fail(
          "has shape \(entry.shape), whose inputs can't be rotated in groups of \(group) as "
            + "\(QuantizationDescription.tensorName) says (convrot_groupsize must divide the inputs)"
        )
      }
    }
  }

  /// [1] or [rows, 1], float32.
  private func scale(_ name: String, rows: Int) throws -> Tensor {
    let key = key(name)
    guard let entry = store.source.entries[key] else {
      throw WeightError(file: file, key: key, problem: "is missing from the checkpoint")
    }
    func fail(_ problem: String) -> WeightError {
      let prefix = key.lastIndex(of: ".").map { String(key[...$0]) } ?? ""
      return store.packedFormatError(prefix)
        ?? WeightError(file: store.source.file(of: key), key: key, problem: problem)
    }
    guard entry.dtype.isFloatingPoint, !entry.dtype.isEightBitFloat else {
      throw fail(
        "is of type \(entry.dtype); only scales in float32, bfloat16 or float16 are supported. "
          + PackedFormat.advice)
    }
    let shape = entry.shape
    guard shape.allSatisfy({ $0 == 1 }) || shape == [rows] || shape == [rows, 1] else {
      throw fail(
        "has shape \(shape); only one scale for a tensor, or one for each of its \(rows) rows, is supported. "
          + PackedFormat.advice)
    }
    let scale = try store.read(key, dtype: .float32)
    guard try scale.isAllFinite() else { throw fail("is not a finite number") }
    let smallest = scale.count > 0 ? try scale.min().item() : 1
    guard smallest > 0 else {
      throw fail("must be positive (got \(Float(smallest))); the file is damaged")
    }
    return try scale.reshape(rows > 1 && scale.count == rows ? [rows, 1] : [1])
  }

  /// Checks `scaled_fp8`, a tensor by whose dtype older files of ComfyUI say which fp8 the weights
  /// here are in.
  ///
  /// - Throws: `WeightError` for a marker of another dtype, and for a weight in the other fp8 than
  ///   it says.
  public func requireScaledFP8MarkerFits() throws {
    guard has("scaled_fp8"), let marker = store.source.entries[key("scaled_fp8")] else { return }
    // ComfyUI's first files have a float32 marker for E4M3.
    let marked: DType = marker.dtype == .float32 ? .float8E4M3 : marker.dtype
    guard marked.isEightBitFloat else {
      throw WeightError(
        file: store.source.file(of: key("scaled_fp8")), key: key("scaled_fp8"),
        problem:
          "marks weights as \(marker.dtype) (expected F8_E4M3 or F8_E5M2). \(PackedFormat.advice)")
    }
    let prefix = path.isEmpty ? "" : path + "."
    let other = store.source.entries.filter { key, entry in
      key.hasPrefix(prefix) && key.hasSuffix(".weight") && entry.dtype.isEightBitFloat
        && entry.dtype != marked
    }.keys.min()
    guard let other else { return }
    throw WeightError(
      file: store.source.file(of: other), key: other,
      problem:
        "is not \(marked), which scaled_fp8 says that the file's weights are in; two files were mixed"
    )
  }
}

extension StoredWeight {
  /// The weight itself, after its slots have been recorded as those of a layer.
  fileprivate func recorded(in store: WeightStore) -> Self {
    for slot in slots { store.record(slot) }
    return self
  }
}
