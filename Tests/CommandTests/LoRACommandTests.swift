import Foundation
import LoRAFiles
import Testing

@Suite struct LoRACommandTests {
  private static let models = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appendingPathComponent("Fixtures/models").path

  private func model(_ name: String) -> String { "\(Self.models)/\(name).safetensors" }

  @Test func badInputIsRefusedBeforeAnythingIsWritten() throws {
    let workshop = try Workshop()
    let (kohya, all, out) = (model("lora_kohya"), model("lora_all"), "out.safetensors")
    let copy = "\(workshop.path)/copy.safetensors"
    try FileManager.default.copyItem(atPath: all, toPath: copy)
    for (arguments, message) in [
      (["convert", copy, "copy.safetensors", "--to", "kohya"], "is the input"),
      (["convert", all, "nowhere/out.safetensors", "--to", "kohya"], "does not exist"),
      (["convert", all, out, "--to", "loha"], "loha"),
      (["convert", model("ltx2_transformer"), out, "--to", "kohya"], "does not belong to a LoRA"),
      (["inspect", "missing.safetensors"], "missing.safetensors"),
      (["merge", "\(all):nan", "--output", out], "no number to multiply by"),
      (["merge", "\(all):strong", "--output", out], "a number after the colon"),
      (
        ["merge", all, "--output", out, "--into", model("ltx2_interleaved")],
        "made for another model"
      ),
      (
        ["merge", all, "--output", out, "--into", model("ltx2_transformer"), "--rank", "2"],
        "--rank"
      ),
      (
        ["merge", all, "--output", out, "--into", model("ltx2_transformer"), "--dtype", "float32"],
        "must be fp8"
      ),
      (["merge", all, "--output", out, "--dtype", "fp8"], "with --into"),
      (["merge", all, "--output", out, "--into", all], "config"),
      (["resize", all, out], "--rank"), (["resize", all, out, "--rank", "0"], "rank 0"),
      (["resize", all, out, "--energy", "2"], "energy"),
      (["strip", model("lora_video"), out, "--stream", "audio"], "has no audio adapters"),
      (["scale", kohya, out, "--by", "nan"], "no number"),
    ] {
      let result = try Program.run(["lora"] + arguments, in: workshop.path)
      #expect(result.status == 2, "\(arguments): \(result.errors)")
      #expect(result.errors.contains(message), "\(arguments): \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: "\(workshop.path)/\(out)"), "\(arguments)")
    }
  }

  @Test func anFp8CheckpointIsWrittenAndItsFormatsAreShown() throws {
    let workshop = try Workshop()
    let merged = try Program.run(
      [
        "lora", "merge", model("lora_all"), "--into", model("ltx2_transformer"), "--dtype", "fp8",
        "--output",
        "fp8.safetensors",
      ], in: workshop.path)
    #expect(merged.status == 0 && merged.errors.contains("matrices quantized"), "\(merged.errors)")
    let shown = try Program.run(["inspect", "fp8.safetensors"], in: workshop.path)
    #expect(
      shown.status == 0 && shown.output.contains("  quantized: "), "\(shown.output) \(shown.errors)"
    )
    #expect(shown.output.contains(" float8_e4m3fn\n"), "\(shown.output)")
  }

  @Test func mergesAndInspects() throws {
    let workshop = try Workshop()
    let merged = try Program.run(
      [
        "lora", "merge", "\(model("lora_kohya")):0.8", "\(model("lora_all")):-0.3", "--rank", "2",
        "--output",
        "m.safetensors",
      ],
      in: workshop.path)
    #expect(merged.status == 0, "\(merged.errors)")
    #expect(merged.errors.contains("energy kept in all: 0."))
    let shown = try Program.run(
      ["lora", "inspect", "m.safetensors", "--json", "--model", model("ltx2_transformer")],
      in: workshop.path)
    #expect(shown.status == 0, "\(shown.errors)")
    let report = try JSONSerialization.jsonObject(with: Data(shown.output.utf8)) as? [String: Any]
    #expect(report?["ranks"] as? [Int] == [2])
    #expect(report?["format"] as? String == "comfyui")
    #expect(report?["base"] as? String == "LTX-2")
    #expect((report?["layers"] as? [Any])?.count ?? 0 > 70)
  }
}
