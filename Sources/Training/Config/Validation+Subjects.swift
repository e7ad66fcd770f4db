import Generation
import LTX
import Support

extension TrainingConfiguration.Validation {
  /// The keys of a sample's values, by the subjects of its generation request.
  ///
  /// - Parameter index: the index of the sample, from 0.
  func subjects(ofSample index: Int) -> SubjectTable {
    let sample = samples[index]
    let key = "validation.samples[\(index)]"
    let dims = sample.videoDims == nil ? "validation.video_dims" : "\(key).video_dims"
    var keys: SubjectTable = [
      ["sample"]: key,
      ["size"]: dims, ["width"]: dims, ["height"]: dims, ["frames"]: dims,
      ["prompts"]: "\(key).prompt",
      ["conditions"]: "\(key).conditions",
      ["frameRate"]: "validation.frame_rate",
      ["steps"]: "validation.inference_steps",
      ["generates", "video"]: "validation.generate_video",
      ["generates", "audio"]: "validation.generate_audio",
    ]
    for modality in Modality.allCases {
      let name = Issue.PathComponent.name(modality.rawValue)
      keys["guidance", name, "cfg"] = "validation.\(modality)_cfg_scale"
      keys["guidance", name, "stg"] = "validation.\(modality)_stg_scale"
      keys["guidance", name, "modality"] = "validation.\(modality)_modality_guidance_scale"
      keys["guidance", name, "rescale"] = "validation.guidance_rescale"
      keys["guidance", name, "stgBlocks"] = "validation.stg_blocks"
    }
    for (position, condition) in sample.conditions.enumerated() {
      let key = "\(key).conditions[\(position)]"
      keys["conditions", .index(position)] = "\(key).\(condition.fileKey)"
      keys["conditions", .index(position), "type"] = "\(key).type"
      for (part, name) in condition.partKeys {
        keys["conditions", .index(position), part] = "\(key).\(name)"
      }
    }
    return keys.merging(.trainingConfiguration)
  }
}
