import Captions
import Support

/// What a model in this process is opened with.
struct LocalCaptionerOptions {
  /// The folder of a Qwen2.5-Omni or Qwen3-Omni model.
  let folder: String
  let compute: ComputeOptions
  let dtype: ComputeDType
  let memory: MemoryOptions
  let uses8Bit: Bool
  let maxTokens: Int
  /// The frames of a second that the model sees.
  let fps: Double
  let thinks: Bool
  /// Whether the tokens of a video and its audio are interleaved by their times.
  let interleaves: Bool
}

/// Opens a model that runs in this process.
///
/// - Throws: `Issue` for a folder that is not such a model.
func openLocalCaptioner(_ options: LocalCaptionerOptions) throws -> any Captioner {
  throw Issue(
    ["captionerModel", .file(options.folder)], "this build has no models that run in this process",
    suggestion: "Start a server and name its address with --vllm-url.")
}
