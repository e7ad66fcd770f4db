import Testing

@testable import Training

/// Likely mistakes are reported with the correct spelling.
@Suite struct ConfigurationSuggestionTests {
  private func problems(_ yaml: String, _ overrides: [String] = []) -> [String] {
    do {
      _ = try TrainingConfiguration(
        yaml: yaml, file: "c.yaml", overrides: overrides, checksPaths: false)
      return []
    } catch let error as ConfigurationProblems {
      return error.problems.map(\.message)
    } catch { return ["\(error)"] }
  }

  @Test(arguments: [
    ("steps=5", "optimization.steps"), ("rank=5", "lora.rank"),
    ("lr=1", "optimization.learning_rate"),
    ("model.rank=5", "lora.rank"), ("learnin_rate=1", "optimization.learning_rate"),
    ("output=x", "output_dir"), ("optimization.stepz=1", "optimization.steps"), ("sead=1", "seed"),
  ])
  func aKeyWithoutItsSectionOrNearlyOne(option: String, key: String) throws {
    let found = problems(ConfigurationText.minimal, [option])
    #expect(found.count == 1)
    #expect(found.first?.hasSuffix("is not a known key; did you mean \(key)?") == true, "\(found)")
  }

  @Test func aKeyThatResemblesNoneGetsNoSuggestion() {
    for key in ["zzzzzzzz", "xy"] {
      #expect(
        problems(ConfigurationText.minimal + "\(key): 1").first?.hasSuffix("is not a known key")
          == true)
    }
  }

  @Test(arguments: [
    ("model:\n\tmodel_path: m\n", 2, 1),
    ("model:\n  model_path: m\nlora:\n  rank: 8\n \talpha: 8\n", 5, 2),
    ("data:\n  a: [1,\n\t2]\n  b:\n\t\tc: 1\n", 5, 1),
  ])
  func aTabInTheIndentationIsNamedWithItsPlace(yaml: String, line: Int, column: Int)
    throws
  {
    do {
      _ = try TrainingConfiguration(yaml: yaml, file: "c.yaml", checksPaths: false)
      Issue.record("was read")
    } catch let error as ConfigurationProblems {
      #expect(error.problems.count == 1)
      #expect(error.problems[0].place == .text(line: line, column: column), "\(error)")
      #expect(error.problems[0].message.contains("indented with a tab"), "\(error)")
    }
  }

  @Test func aTabElsewhereIsABlank() {
    #expect(problems(ConfigurationText.minimal + "seed:\t7\n# \tcomment\n") == [])
  }

  @Test(arguments: [
    ("output_dir: $NO_SUCH_VARIABLE/x", "the variable $NO_SUCH_VARIABLE"),
    ("output_dir: 'C:\\runs'", "/mnt/c/runs"),
    ("output_dir: s3://bucket/x", "is a URL"), ("output_dir: ~no-such-user/x", "begins with ~"),
  ])
  func aPathThatSomethingElseWouldExpandIsRefused(line: String, text: String) {
    let found = problems(ConfigurationText.minimal + line)
    #expect(found.count == 1 && found[0].contains(text), "\(found)")
  }
}
