import Support
import Torch

/// A mask over the latents in `base`, 1 where they are conditioned. A file holds the tensor `mask`.
protocol MaskArtifact: Artifact {
  /// The names of the mask's dimensions.
  var dimensions: [String] { get }
  /// Returns the shape that the sample's latents require of the mask, and a clause about the
  /// latents for a mask of another shape; nil if the sizes of the latents aren't known.
  func requirement(_ latents: CachedFacts) -> (shape: [Int], clause: String)?
}

extension MaskArtifact {
  var contents: String { noun }
  var survivesUpstreamOverwrite: Bool { true }
  var mayBeZero: Bool { true }

  /// The content of a file.
  func values(_ mask: Tensor) -> CachedValues { ["mask": .tensor(mask)] }

  func inspect(_ file: SampleFile) throws -> CachedFacts {
    guard let shape = file.arrays["mask"]?.shape else {
      throw Issue([.file(file.path)], "mask is missing")
    }
    guard shape.count == dimensions.count, !shape.contains(0) else {
      throw Issue(
        [.file(file.path)],
        "mask has shape \(shape); expected [\(dimensions.joined(separator: ", "))]")
    }
    return CachedFacts(tensor: "mask", mask: shape)
  }

  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] {
    guard let shape = file.facts.mask,
      let latents = base.flatMap({ reading[$0, sample] })?.facts,
      let required = requirement(latents), shape != required.shape
    else { return [] }
    return [(.mismatch, "mask has shape \(shape), but \(required.clause)")]
  }
}
