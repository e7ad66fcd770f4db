// P patches, D values of a patch, N media of one kind, F mel frequencies, R frames of the longest
// recording.

import Foundation
import LanguageModels
import LocalCaptioning
import NN
import Support
import TensorFiles
import Torch

/// `caption-processor`: conversations with media to an omni model's inputs.
func probeCaptionProcessor(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let folder = try options.requireCaptionerModel()
  guard let path = options.inputs else {
    throw Issue(["inputs"], "is missing, but caption-processor needs a file of messages")
  }
  let processor = try QwenOmniProcessor(
    folder: folder, configuration: QwenOmniConfiguration(folder: folder))
  let request = try CaptionRequest(path: path)
  let made = try processor(request.conversations(for: processor), request.options)
  let shape = [made.ids.count, made.ids.first?.count ?? 0]
  let media = made.media
  let outputs: [(key: String, tensor: Tensor?)] = [
    ("input_ids", try Tensor(made.ids.flatMap { $0 }, shape: shape)),
    ("attention_mask", try Tensor(made.mask.flatMap { $0 }, shape: shape)),
    ("position_ids", made.positions), ("delta", made.delta),
    ("pixel_values", media.pixelValues), ("image_grid_thw", try gridTensor(media.imageGrids)),
    ("pixel_values_videos", media.pixelValuesVideos),
    ("video_grid_thw", try gridTensor(media.videoGrids)),
    (
      "video_second_per_grid",
      made.secondsPerGrid.isEmpty ? nil : try Tensor(made.secondsPerGrid)
    ),
    ("input_features", media.inputFeatures), ("feature_attention_mask", media.featureMask),
  ]
  return outputs.compactMap { key, tensor in tensor.map { (key: key, tensor: $0) } }
}

/// [N, 3]; nil without grids.
private func gridTensor(_ grid: [[Int]]) throws -> Tensor? {
  grid.isEmpty ? nil : try Tensor(grid.flatMap { $0 }, shape: [grid.count, 3])
}

/// `caption-towers`: pixels and features to embeddings.
func probeCaptionTowers(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let folder = try options.requireCaptionerModel()
  let configuration = try QwenOmniConfiguration(folder: folder)
  let thinker =
    try Weights(
      ShardedSafetensors(folder: folder), LoadPolicy(dtype: options.dtype, device: options.device))
    / "thinker"
  let media = try inputs.captionMedia(configuration)
  var outputs: [(key: String, tensor: Tensor)] = []
  try withoutGrad {
    let vision = try VisionTower(thinker / "visual", configuration.vision)
    for (kind, pixels, grid) in [
      ("image", media.pixelValues, media.imageGrids),
      ("video", media.pixelValuesVideos, media.videoGrids),
    ] {
      guard let pixels else { continue }
      let output = try vision(pixels: pixels, grid: grid)
      outputs.append(("\(kind)_embeds", output.embeddings))
      for (index, level) in output.deepstack.enumerated() {
        outputs.append(("deepstack.\(kind).\(index)", level))
      }
    }
    if let features = media.inputFeatures, let mask = media.featureMask {
      let audio = try AudioTower(thinker / "audio_tower", configuration.audio)
      outputs.append(("audio_embeds", try audio(features: features, mask: mask)))
    }
  }
  return outputs
}

extension ProbeInputs {
  /// The inputs of the towers, all optional.
  func captionMedia(_ configuration: QwenOmniConfiguration) throws -> MediaInputs {
    fix("D", configuration.vision.patchWidth)
    fix("F", configuration.audio.melBins)
    var media = MediaInputs()
    media.pixelValues = try optionalFloat("pixel_values", "Pi D")
    if media.pixelValues != nil { media.imageGrids = try captionGrid("image_grid_thw", "Ni 3") }
    media.pixelValuesVideos = try optionalFloat("pixel_values_videos", "Pv D")
    if media.pixelValuesVideos != nil {
      media.videoGrids = try captionGrid("video_grid_thw", "Nv 3")
    }
    media.inputFeatures = try optionalFloat("input_features", "Na F R")
    if media.inputFeatures != nil {
      media.featureMask = try int("feature_attention_mask", "Na R")
    }
    return media
  }

  /// Frames, rows and columns of patches of each image or clip.
  func captionGrid(_ name: String, _ shape: String) throws -> [[Int]] {
    let values = try int(name, shape).array(of: Int.self)
    return stride(from: 0, to: values.count, by: 3).map { Array(values[$0..<$0 + 3]) }
  }
}
