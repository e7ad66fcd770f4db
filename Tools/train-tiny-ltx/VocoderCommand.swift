import ArgumentParser
import TinyTraining

/// `train-tiny-ltx vocoder`: the vocoder with its extension to 48 kHz.
struct VocoderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vocoder",
    abstract: "Train the vocoder on the world's tones.",
    discussion: """
      Trains on the spectrograms of drawn audio, then also on those that the audio VAE decodes, \
      then the extension to 48 kHz. The same command resumes. When it is finished, \
      FOLDER/vocoder.safetensors has the vocoder, and FOLDER/samples has WAV files of held-out \
      tones, drawn and decoded.

      Example:

        train-tiny-ltx vocoder stages/vocoder --audio-vae stages/audio-vae/audio-vae.safetensors
      """)

  @Argument(help: ArgumentHelp("The folder of the stage.", valueName: "folder"))
  var folder: String

  @Option(help: ArgumentHelp("The file of the audio VAE's stage.", valueName: "file"))
  var audioVae: String

  @Option(help: "The seed of the weights and of the clips.")
  var seed: UInt64 = 1

  @Option(help: "The steps of each of the three parts. (default: 3500, 1500 and 300)")
  var steps: Int?

  @Option(help: "The time after which the stage stops, to be resumed, in minutes.")
  var minutes: Double = 90

  @Option(help: "The number of held-out clips that the result is measured with.")
  var clips = 60

  func validate() throws {
    guard minutes > 0 else { throw ValidationError("--minutes: must be above 0") }
    guard steps ?? 1 >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard clips >= 1 else { throw ValidationError("--clips: must be at least 1") }
  }

  func run() throws {
    let path = "\(folder)/vocoder.safetensors"
    var training = VocoderTraining(seed: seed)
    if let steps {
      (training.drawnSteps, training.decodedSteps, training.extensionSteps) = (steps, steps, steps)
    }
    let isFinished = try training.run(
      in: folder, audioVAE: audioVae, minutes: minutes, writingTo: path
    ) { print($0) }
    guard isFinished else {
      print("Stopped. Run the same command to resume.")
      throw TrainTinyLTX.stopped
    }
    let quality = try AudioQuality(audioVAE: audioVae, vocoder: path, clips: clips, seed: seed)
    for metric in try quality.measure() { print(metric.name, metric.value) }
    try quality.writeSamples(to: "\(folder)/samples")
    print(path)
  }
}
