import Foundation
import LTX
import LoRAFiles
import TestSupport
import Testing

/// Mistakes on the command line are answered with a suggestion.
@Suite struct SuggestionTests {

  @Test(arguments: [
    (["trian", "c.yaml"], "ltx train"), (["lora", "mrge", "a"], "ltx lora merge"),
    (["dataset", "chek"], "ltx dataset check"),
    (["merge", "a"], "ltx lora merge"), (["finetune"], "ltx train"),
    (["preproces", "--model-path", "x"], "ltx preprocess"),
  ])
  func aMistypedSubcommand(arguments: [String], suggestion: String) throws {
    let place = try Workshop()
    let result = try Program.run(arguments, in: place.path)
    #expect(result.status == 2)
    #expect(result.errors.hasSuffix("Did you mean `\(suggestion)`?\n"), "\(result.errors)")
  }

  @Test func helpForAMistypedSubcommand() throws {
    let place = try Workshop()
    let result = try Program.run(["help", "trian"], in: place.path)
    #expect(result.status == 2 && result.output.isEmpty)
    #expect(
      result.errors == "error: there is no such subcommand. Did you mean `ltx train --help`?\n")
    #expect(try Program.run(["help", "lora", "merge"], in: place.path).status == 0)
  }

  @Test func aLoRAIsNotInspectedAsACheckpoint() throws {
    let place = try Workshop()
    let lora = Fixtures.model("lora_all")
    let result = try Program.run(["inspect", lora], in: place.path)
    #expect(result.status == 2 && result.output.isEmpty)
    #expect(
      result.errors
        == "error: \(lora): is a LoRA, not a checkpoint. Run `ltx lora inspect \(lora)`.\n")
  }

  @Test func nothingIsCreatedUnderTheNameOfAVariableOrOfAWindowsDrive() throws {
    let place = try Workshop()
    let clip = try #require(try Clips.all().first)
    let lora = Fixtures.model("lora_all")
    for (arguments, text) in [
      (["split", clip, "$HOME/x"], "the variable $HOME"),
      (["split", clip, "C:\\runs"], "is a Windows path"),
      (["tiny-model", "${HOME}/x"], "the variable $HOME"),
      (["tiny-model", "~/x"], "begins with ~"),
      (["lora", "scale", lora, "$HOME/x.safetensors", "--by", "2"], "the variable $HOME"),
      (
        ["lora", "merge", lora, "--output", "out\\x.safetensors"],
        "the backslashes of a Windows path"
      ),
      (["lora", "merge", lora, "--output", "/dev/null"], "is a device"),
      (
        ["lora", "merge", lora, "--output", String(repeating: "x", count: 300)],
        "File name too long"
      ),
    ] {
      let result = try Program.run(arguments, in: place.path)
      #expect(result.status == 2 && result.errors.contains(text), "\(arguments): \(result.errors)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)
  }
}
