import LTX
import Media
import Torch

extension GenerationPipeline {
  /// Writes frames while decoding, so that a long video is never in memory as a whole.
  func decodeVideo(_ tiling: Tiling, _ state: inout State, _ advance: Advance) throws {
    let total = plan.size.frames * plan.outputs.count
    try advance(0, total)
    func load() throws -> VideoDecoder {
      try plan.checkpoint.videoDecoder(
        dtype: plan.models.dtype, device: plan.models.device, steps: plan.request.decoderSteps)
    }
    let decoder = try shared?.videoDecoder(load) ?? load()
    var done = 0
    for (index, path) in plan.outputs.enumerated() {
      guard let latent = state.results[index].video else {
        preconditionFailure("no video to decode")
      }
      state.results[index].video = nil
      let generator = state.results[index].generator
      let sink = try sink(path, state, index)
      let sides = SideBySide(references: state.inputs.shownReferences, size: plan.size)
      var frameIndex = 0
      try decoder.decode(
        latent, tiling: tiling, noise: decoder.needsNoise ? { try generator.normal($0) } : nil
      ) { part in
        try part.requireFinite(from: "video decoder")
        for frame in 0..<part.size(2) {
          for image in try FrameTensors.frames(part.narrow(2, frame, 1)) {
            try sink.append(sides.joined(image, index: frameIndex))
          }
          frameIndex += 1
          done += 1
          try advance(done, total)
        }
      }
      try sink.finish()
    }
  }

  /// Writes a given video's frames at the result's size.
  func copyVideo(_ path: String, _ state: State, _ advance: Advance) throws {
    let total = plan.size.frames * plan.outputs.count
    try advance(0, total)
    var done = 0
    for (index, output) in plan.outputs.enumerated() {
      let sink = try sink(output, state, index)
      let reader = try VideoReader(path: path)
      var count = 0
      while count < plan.size.frames, let frame = try reader.next() {
        if (frame.width, frame.height) == (plan.size.width, plan.size.height) {
          try sink.append(frame)
        } else {
          let pixels = try FrameTensors.stack([
            FrameTensors.filled(frame, (plan.size.width, plan.size.height))
          ])
          for image in try FrameTensors.frames(pixels) { try sink.append(image) }
        }
        count += 1
        done += 1
        try advance(done, total)
      }
      try sink.finish()
    }
  }

  func writeAudio(_ state: State, _ advance: Advance) throws {
    try advance(0, plan.outputs.count)
    for (index, path) in plan.outputs.enumerated() {
      guard let audio = state.results[index].audioClip ?? state.inputs.givenAudio else {
        preconditionFailure("no audio to write")
      }
      try WAVWriter.write(audio.channels, sampleRate: audio.sampleRate, to: path)
      try advance(index + 1, plan.outputs.count)
    }
  }

  private func sink(_ path: String, _ state: State, _ index: Int) throws -> OutputSink {
    try OutputSink(
      path: path, kind: OutputKind(path: path), size: plan.imageSize,
      audio: state.results[index].audioClip ?? state.inputs.givenAudio)
  }
}
