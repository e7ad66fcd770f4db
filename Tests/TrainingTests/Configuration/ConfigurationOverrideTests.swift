import Generation
import LTX
import Testing

@testable import Training

@Suite struct ConfigurationOverrideTests {
  private func read(_ overrides: String..., text: String = ConfigurationText.minimal) throws
    -> TrainingConfiguration
  {
    try ConfigurationText.read(text, overrides: overrides)
  }

  @Test func values() throws {
    #expect(try read("optimization.steps=50").optimization.steps == 50)
    #expect(try read("seed=1", "seed = 2").seed == 2)
    #expect(try read("lora.rank=16").lora?.rank == 16)
    #expect(try read("optimization.learning_rate=1e-4").optimization.learningRate == 1e-4)
    #expect(try read("lora.target_modules=[to_q, to_k]").lora?.targetModules == ["to_q", "to_k"])
    #expect(try read("validation.interval=").validation.interval == nil)
    #expect(try read("checkpoints={interval: 3, keep_last_n: 2}").checkpoints.keepLastN == 2)
    #expect(
      try read("optimization.learning_rates={to_out.0: 1e-3}").optimization.learningRates == [
        "to_out.0": 1e-3
      ])
    #expect(try read(#"output_dir="/a = b""#).outputDir == "/a = b")
  }

  @Test func lists() throws {
    let c = try read(
      #"validation.samples[0].prompt="A cat: the film""#, "validation.samples[1].prompt=second",
      "validation.samples[1].seed=7")
    #expect(c.validation.samples.map(\.prompt) == ["A cat: the film", "second"])
    #expect(c.validation.samples[1].seed == 7)
    let changed = try read(
      "validation.samples[0].conditions[1].num_frames=17", "lora.target_modules[1]=to_v",
      text: ConfigurationText.everything)
    #expect(
      changed.validation.samples[0].conditions[1]
        == .prefix(path: "v.mp4", frames: 17))
    #expect(changed.lora?.targetModules == ["to_q", "to_v"])
  }

  /// The message names the option instead of a line.
  @Test(arguments: [
    (
      "optimization.steps=0",
      "--set optimization.steps=0: optimization.steps must be an integer from 1 to 2147483648 (got \"0\")"
    ),
    (
      "optimization.stepz=1",
      "--set optimization.stepz=1: optimization.stepz is not a known key; did you mean optimization.steps?"
    ),
    ("steps", "--set steps: must be KEY=VALUE, such as optimization.steps=50"),
    ("=3", "--set =3: must be KEY=VALUE, such as optimization.steps=50"),
    (
      "a..b=3",
      "--set a..b=3: \"a..b\" is not a key; write it as optimization.steps or validation.samples[0].prompt"
    ),
    (
      "a[x]=3",
      "--set a[x]=3: \"a[x]\" is not a key; write it as optimization.steps or validation.samples[0].prompt"
    ),
    ("seed.x=3", "--set seed.x=3: seed is \"3\" and has no keys"),
    ("seed[0]=3", "--set seed[0]=3: seed is \"3\" and not a list"),
    (
      "lora.target_modules[3]=a",
      "--set lora.target_modules[3]=a: lora.target_modules has 2 entries, counted from 0; the next would be lora.target_modules[2]"
    ),
    ("seed=[1", "--set seed=[1: is not valid YAML: did not find expected ',' or ']'"),
  ])
  func wrong(option: String, message: String) throws {
    let text = ConfigurationText.minimal.replacingOccurrences(
      of: "lora: {}", with: "lora: {target_modules: [a, b]}")
    let error = try #require(throws: ConfigurationProblems.self) {
      try ConfigurationText.read(text + "seed: 3\n", overrides: [option])
    }
    #expect(error.description == message)
  }

  /// Problems of options come after those of the file, and all are reported.
  @Test func withProblemsOfTheFile() throws {
    let error = try #require(throws: ConfigurationProblems.self) {
      try ConfigurationText.read(
        ConfigurationText.minimal + "sed: 3\n", overrides: ["x", "lora.rank=0"])
    }
    #expect(
      error.description.split(separator: "\n").map { $0.prefix(16) } == [
        "c.yaml:4:1: sed ", "--set lora.rank=", "--set x: must be",
      ])
  }
}
