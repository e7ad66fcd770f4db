import BlockExecution
import LTX
import LoRAFiles
import NN
import Optimizers
import Support

/// The configuration of a training run, from its YAML file.
///
/// Sections, keys and defaults are those of the official trainer (ltx-trainer 1.2.0, `config.py`)
/// in camel case; extensions are marked. A configuration that was loaded from a file has passed all
/// checks that need no model: see `init(path:)`.
public struct TrainingConfiguration: Sendable {
  public var model = Model()
  /// Nil only with `training_mode: full`.
  public var lora: LoRA?
  public var trainingStrategy = TrainingStrategy.textToVideo(.init())
  public var optimization = Optimization()
  public var acceleration = Acceleration()
  public var data = TrainingData()
  public var validation = Validation()
  public var checkpoints = Checkpoints()
  public var hub = Hub()
  public var flowMatching = FlowMatching()
  public var wandb = WeightsAndBiases()
  /// An extension: event files for TensorBoard.
  public var tensorboard = Output()
  /// An extension: `report.html`.
  public var report = Output()
  public var seed = 42
  /// An absolute path.
  public var outputDir = "outputs"

  /// The source of the values: the file, the positions of its keys, and notes about them.
  public internal(set) var source = ConfigurationSource()
}

extension TrainingConfiguration {
  /// The base model, and the parts of it that are trained.
  public struct Model: Sendable, Equatable {
    public enum TrainingMode: String, CaseIterable, Sendable { case lora, full }

    /// A checkpoint with all components, or the transformer of a split one.
    public var modelPath = ""
    public var textEncoderPath: String?
    /// Nil for a checkpoint with all components.
    public var videoVAEPath: String?
    public var audioVAEPath: String?
    public var trainingMode = TrainingMode.lora
    /// Weights that training starts from: a file, or a folder whose newest file is used.
    public var loadCheckpoint: String?
    /// An extension: patterns of the modules that full fine-tuning trains; nil for all.
    public var trainableModules: [String]?

    /// The files of the model, without the text encoder.
    var files: ModelFiles {
      ModelFiles(unified: modelPath, videoVAE: videoVAEPath, audioVAE: audioVAEPath)
    }
  }

  public struct LoRA: Sendable, Equatable {
    public var rank = 64
    public var alpha = 64
    /// The probability that an input of an adapter is dropped.
    public var dropout = 0.0
    public var targetModules = ["to_k", "to_q", "to_v", "to_out.0"]
    /// An extension: the kind of adapters.
    public var type = LoRAAdapter.kind
    /// An extension: a scale of alpha / √rank instead of alpha / rank (Kalajdzievski, 2023).
    public var useRSLoRA = false
    /// An extension: the same as type dora.
    public var useDoRA = false
    /// An extension: the size of LoKr's small factor; -1 for the one nearest to the square root.
    public var factor = -1
    /// An extension: whether LoKr's small factor is a product too.
    public var decomposeBoth = false
    /// An extension: whether LoKr's large factor is a whole matrix, whatever the rank.
    public var fullMatrix = false

    public var kind: AdapterKind { useDoRA ? DoRAAdapter.kind : type }

    /// The settings of new adapters.
    public var settings: AdapterSettings {
      var settings = AdapterSettings(
        rank: rank, alpha: Double(alpha),
        scaling: useRSLoRA ? .alphaOverSquareRootOfRank : .alphaOverRank)
      settings.factor = factor
      settings.decomposesBoth = decomposeBoth
      settings.isFullMatrix = fullMatrix
      return settings
    }
  }

  public struct Optimization: Sendable, Equatable {
    /// `adamw` and `adamw8bit` are the official trainer's; the others are extensions.
    public typealias OptimizerType = OptimizerKind
    public typealias SchedulerType = ScheduleKind

    public var learningRate = 5e-4
    public var steps = 3000
    public var batchSize = 2
    public var gradientAccumulationSteps = 1
    public var maxGradNorm = 1.0
    public var optimizerType = OptimizerType.adamw
    /// An extension: the optimizer's own options.
    public var optimizerParams: [String: JSON] = [:]
    public var schedulerType = SchedulerType.linear
    public var schedulerParams: [String: JSON] = [:]
    /// An extension: the number of steps in which the learning rate rises from 0.
    public var warmupSteps = 0
    /// An extension: other learning rates for modules whose path ends in a key.
    public var learningRates = ModuleRates()
    /// An extension: the decay of the average of the trained weights; nil for no average.
    public var emaDecay: Double?
    /// An extension: the number of consecutive steps without a finite loss or gradient after which
    /// the run stops.
    public var maxSkippedSteps = 10
    public var enableGradientCheckpointing = false
  }

  public struct Acceleration: Sendable, Equatable {
    public enum MixedPrecision: String, CaseIterable, Sendable { case no, fp16, bf16 }

    /// Nil is `no`.
    public var mixedPrecisionMode: MixedPrecision? = .bf16
    /// The quantization of frozen weights.
    public var quantization: BaseQuantization?
    public var loadTextEncoderIn8Bit = false
    public var offloadOptimizerDuringValidation = false
    /// An extension: the device's memory that the run may use; nil is `auto` on a GPU.
    public var memory: MemoryBudget?
    /// An extension: the treatment of the blocks' activations; nil follows
    /// `enable_gradient_checkpointing`.
    public var activations: ActivationPolicy?
    /// An extension: the location of the transformer's frozen weights while their block does not
    /// run.
    public var weightPlacement = WeightPlacement.resident
    /// An extension: the number of blocks with that placement; nil for all.
    public var streamedBlocks: Int?
    /// An extension: the number of ranks among which a copy of sharded weights is divided, at least
    /// 2; nil for all ranks.
    public var shardDegree: Int?
  }

  public struct TrainingData: Sendable, Equatable {
    /// An absolute path.
    public var preprocessedDataRoot = ""
    /// 0 loads each batch when it is needed.
    public var numDataloaderWorkers = 2
    /// An extension: the probability that a sample is trained on the empty prompt instead of its
    /// caption.
    public var captionDropout = 0.0
    /// An extension: whether latents and text features may come from another model file than
    /// `model_path`.
    public var acceptOtherModel = false
  }

  public struct Checkpoints: Sendable, Equatable {
    public enum Precision: String, CaseIterable, Sendable { case bfloat16, float32 }
    public enum SavedState: String, CaseIterable, Sendable { case full, minimal, off }
    public enum SaveErrorAction: String, CaseIterable, Sendable { case stop, `continue` }

    /// Steps between saved weights; nil saves only at the end.
    public var interval: Int?
    /// The number of newest checkpoints to keep; -1 keeps all.
    public var keepLastN = 1
    /// An extension: whether the checkpoint with the lowest validation loss is kept in addition.
    public var keepBest = false
    public var precision = Precision.bfloat16
    /// Whether to start over even if the output folder holds a run that could be resumed.
    public var noResume = false
    public var saveTrainingState = SavedState.minimal
    /// An extension: the reaction to a failed save.
    public var onSaveError = SaveErrorAction.stop
  }

  public struct FlowMatching: Sendable, Equatable {
    public enum TimestepSamplingMode: String, CaseIterable, Sendable {
      case uniform
      case shiftedLogitNormal = "shifted_logit_normal"
    }

    public var timestepSamplingMode = TimestepSamplingMode.shiftedLogitNormal
    public var timestepSamplingParams: [String: JSON] = [:]
  }

  public struct Hub: Sendable, Equatable {
    public var pushToHub = false
    /// `name/repository`.
    public var hubModelID: String?
  }

  public struct WeightsAndBiases: Sendable, Equatable {
    public enum Mode: String, CaseIterable, Sendable { case online, offline }

    public var enabled = false
    public var project = "ltxv-trainer"
    public var entity: String?
    public var tags: [String] = []
    public var logValidationVideos = true
    /// An extension: nil leaves the choice to the environment.
    public var mode: Mode?
  }

  /// An output that is on by default.
  public struct Output: Sendable, Equatable {
    public var enabled = true
  }
}

/// Learning rates by patterns of modules, in the order of the file: the first match applies.
public struct ModuleRates: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public struct Rate: Sendable, Equatable {
    public var pattern: String
    public var learningRate: Double
  }

  public private(set) var rates: [Rate] = []
  public var isEmpty: Bool { rates.isEmpty }

  public init() {}

  public init(dictionaryLiteral elements: (String, Double)...) {
    for (pattern, rate) in elements { set(pattern, rate) }
  }

  mutating func set(_ pattern: String, _ learningRate: Double) {
    rates.append(Rate(pattern: pattern, learningRate: learningRate))
  }
}

extension Rule<ModuleRates> {
  /// The rule for a section whose keys the user chooses.
  static func rates(_ range: NumberRange) -> Rule {
    .section(
      { reader in
        var rates = ModuleRates()
        // Invalid numbers have been reported.
        for (key, _) in reader.all { reader.read(key, .number(range)).map { rates.set(key, $0) } }
        return rates
      }, write: { .mapping($0.rates.map { .init($0.pattern, .double($0.learningRate)) }) })
  }
}
