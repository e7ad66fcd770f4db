import TestSupport
import Testing
import Training

/// `ltx config`, run as a user runs it.
@Suite struct ConfigCommandTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func run(_ arguments: String...) throws -> Program.Result {
    try Program.run(["config"] + arguments, in: scratch.path)
  }

  @Test func initWritesTheTemplate() throws {
    #expect(try run("init", "v2v-ic").output == ConfigurationMode.v2vIC.template)
    let written = try run("init", "full", "c.yaml")
    #expect(written.status == 0 && written.output == "c.yaml\n")
    #expect(
      try String(contentsOfFile: scratch.file("c.yaml"), encoding: .utf8)
        == ConfigurationMode.full.template)
    let again = try run("init", "t2v", "c.yaml")
    #expect(again.status == 2 && again.errors.contains("c.yaml: already exists"))
    let nowhere = try run("init", "t2v", "no/c.yaml")
    #expect(nowhere.status == 2 && nowhere.errors.contains("no/c.yaml: can't be written"))
    #expect(try run("init", "t3v").status == 2)
  }

  @Test func checkReportsAllProblems() throws {
    try scratch.write(ConfigurationMode.t2v.template, to: "c.yaml")
    let missing = try run("check", "c.yaml")
    #expect(missing.status == 2 && missing.output.isEmpty)
    #expect(missing.errors.split(separator: "\n").count == 3)
    #expect(missing.errors.contains("model.text_encoder_path <gemma-folder> does not exist"))
    let fine = try run("check", "--skip-paths", "c.yaml")
    #expect(fine.status == 0 && fine.output == "c.yaml: no problems found\n" && fine.errors.isEmpty)
    let option = try run("check", "--skip-paths", "c.yaml", "--set", "lora.rank=1")
    #expect(option.status == 2)
    #expect(
      option.errors
        == "error: --set lora.rank=1: lora.rank must be an integer from 2 to 65536 (got \"1\")\n")
    #expect(
      try run("check", "none.yaml").errors == "error: none.yaml: can't be read; does it exist?\n")
  }

  /// The output of `show` can be trained with, and shows the same again.
  @Test func show() throws {
    try scratch.write(
      "model: {model_path: /m}\nlora: {}\ndata: {preprocessed_data_root: /d}\nvalidation: {prompts: [a]}\n",
      to: "c.yaml")
    let shown = try run("show", "c.yaml", "--set", "seed=7")
    #expect(shown.status == 0 && shown.output.contains("\nseed: 7\n"))
    #expect(shown.errors.contains("note: validation.prompts (line 4) is an older key"))
    try scratch.write(shown.output, to: "shown.yaml")
    #expect(try run("show", "shown.yaml").output == shown.output)
    let json = try run("show", "--json", "c.yaml")
    #expect(
      json.status == 0 && json.output.contains("\"output_dir\" : \"\(scratch.path)/outputs\""))
  }
}
