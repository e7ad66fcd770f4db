import Foundation
import LoRAFiles
import NN
import TestSupport
import Testing

@Suite struct LoRACommandTests {

  private func model(_ name: String) -> String { Fixtures.model(name) }

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
      (["merge", "\(all):nan", "--output", out], "must be finite"),
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
      (["merge", all, "--output", out, "--dtype", "fp8"], "needs --into"),
      (["merge", all, "--output", out, "--into", all], "config"),
      (["resize", all, out], "--rank"), (["resize", all, out, "--rank", "0"], "rank 0"),
      (["resize", all, out, "--energy", "2"], "energy"),
      (["strip", model("lora_video"), out, "--stream", "audio"], "has no audio adapters"),
      (["scale", kohya, out, "--by", "nan"], "can't be scaled by nan"),
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

  /// Metadata of any size is shown in one short line, and the JSON has all of its keys. Adapters of
  /// other models are listed.
  @Test func hostileTextIsShownSafely() throws {
    let workshop = try Workshop()
    let fixture = try LoRAFixture()
    var metadata = [
      "a\u{1b}[2Jb": "red \u{1b}[31m\nsecond line \u{202e}",
      "long": String(repeating: "x", count: 3_000_000),
    ]
    for number in 0..<100 { metadata["key\(number)"] = "value" }
    let (own, other) = ("diffusion_model.proj_out", "vae.decoder.conv_in")
    let path = try fixture.file(
      [
        "\(own).lora_A.weight": [2, 8], "\(own).lora_B.weight": [8, 2],
        "\(other).lora_A.weight": [2, 8], "\(other).lora_B.weight": [8, 2],
      ], metadata: metadata)
    let text = try Program.run(["lora", "inspect", path], in: workshop.path).output
    #expect(text.utf8.count < 10_000)
    #expect(text.contains(#"a\u{1b}[2Jb: red \u{1b}[31m\nsecond line \u{202e}"#))
    #expect(text.contains("and 52 more; --json prints all"))
    #expect(!text.unicodeScalars.contains { $0 != "\n" && $0.value < 0x20 || $0 == "\u{202e}" })
    #expect(text.contains("not used 1 of the VAE: \(other)"), "\(text)")
    #expect(text.contains("targets  proj_out (1)"), "\(text)")
    let json = try Program.run(["lora", "inspect", path, "--json"], in: workshop.path).output
    let report = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    #expect(report?["metadata"] as? [String: String] == metadata)
  }

  @Test func everyCommandWorksOnLoKr() throws {
    let workshop = try Workshop()
    let fixture = try LoRAFixture()
    let lokr = try fixture.file(
      of: LoKrAdapter.kind, ["diffusion_model.transformer_blocks.0.attn1.to_q"])
    for (arguments, output) in [
      (["inspect", lokr, "--model", model("ltx2_transformer")], "1 LoKr adapter, ComfyUI"),
      (["convert", lokr, "kohya.safetensors", "--to", "kohya"], "kohya.safetensors"),
      (["merge", lokr, model("lora_all"), "--output", "m.safetensors"], "m.safetensors"),
      (["scale", lokr, "s.safetensors", "--by", "0.5"], "s.safetensors"),
      (["resize", lokr, "r.safetensors", "--rank", "1"], " to 1, energy "),
      (
        [
          "merge", lokr, "--into", model("ltx2_transformer"), "--output", "fused.safetensors",
        ], "fused.safetensors"
      ),
      (["inspect", "kohya.safetensors"], "kohya format"),
    ] {
      let result = try Program.run(["lora"] + arguments, in: workshop.path)
      #expect(result.status == 0, "\(arguments): \(result.errors)")
      #expect(result.output.contains(output), "\(arguments): \(result.output)")
    }
    let refused = try Program.run(
      ["lora", "convert", lokr, "d.safetensors", "--to", "diffusers"], in: workshop.path)
    #expect(refused.status == 2 && refused.errors.contains("which diffusers does not load"))
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
