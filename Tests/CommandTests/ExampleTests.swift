import Foundation
import TestSupport
import Testing
import Yams

/// The files in `examples/`, run where that needs no cluster.
@Suite struct ExampleTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("examples").path

  /// Runs the command of a manifest up to the first step of training, with another configuration.
  private func dryRun(_ command: [String], environment: [String: String] = [:]) throws -> String {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("example", steps: 1)
    #expect(command.first == "ltx")
    let arguments = command.dropFirst().map { $0.hasSuffix("config.yaml") ? config : $0 }
    let result = try Program.run(
      arguments + ["--dry-run"], in: prepared.path,
      environment: PretendGPU.environment(count: 1).merging(environment) { $1 })
    #expect(result.status == 0, "\(result.errors)")
    return result.output
  }

  @Test func composeFile() throws {
    let text = try String(contentsOfFile: "\(Self.folder)/compose.yaml", encoding: .utf8)
    let file = try #require(try Yams.load(yaml: text) as? [String: Any])
    let services = try #require(file["services"] as? [String: [String: Any]])
    let service = try #require(services["train"])
    let words = try #require(service["command"] as? [String])
    let command = words.map { $0 == "${CONFIG:-/data/config.yaml}" ? "/data/config.yaml" : $0 }
    #expect(!command.contains { $0.contains("$") })
    let output = try dryRun(command)
    #expect(output.contains("output_dir"))
    #expect((service["volumes"] as? [String])?.count == 1)
  }

  @Test func pyTorchJob() throws {
    let text = try String(contentsOfFile: "\(Self.folder)/pytorchjob.yaml", encoding: .utf8)
    let file = try #require(try Yams.load(yaml: text) as? [String: Any])
    #expect(file["apiVersion"] as? String == "kubeflow.org/v1")
    #expect(file["kind"] as? String == "PyTorchJob")
    let spec = try #require(file["spec"] as? [String: Any])
    let replicas = try #require(spec["pytorchReplicaSpecs"] as? [String: [String: Any]])
    #expect(replicas.keys.sorted() == ["Master", "Worker"])
    for replica in replicas.values {
      let template = try #require(replica["template"] as? [String: Any])
      let pod = try #require(template["spec"] as? [String: Any])
      let container = try #require((pod["containers"] as? [[String: Any]])?.first)
      // The operator looks for a container of this name.
      #expect(container["name"] as? String == "pytorch")
      let command = try #require(container["command"] as? [String])
      let output = try dryRun(
        command,
        environment: [
          "PET_NNODES": "1", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "0",
          "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": "29731",
        ])
      #expect(output.contains("output_dir"))
    }
  }

  /// With an `srun` that starts two tasks on this machine, each of which sees one GPU.
  @Test func slurmScript() throws {
    let prepared = try PreparedTraining.shared.get()
    let shop = try Workshop()
    let config = try prepared.configure("slurm", steps: 2)
    try shop.write(
      "srun",
      """
      #!/bin/sh
      while [ "${1#--}" != "$1" ]; do shift; done
      export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_JOB_ID=$$ SLURM_STEP_ID=0
      SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & id=$!
      SLURM_PROCID=0 SLURM_LOCALID=0 "$@" && wait $id
      """)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o755], ofItemAtPath: "\(shop.path)/srun")
    let script = "\(Self.folder)/slurm.sbatch"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [script, config]
    let programs = URL(fileURLWithPath: Program.path).deletingLastPathComponent().path
    var environment = ProcessInfo.processInfo.environment
    environment["PATH"] = "\(shop.path):\(programs):\(environment["PATH"] ?? "")"
    environment.merge(try PretendGPU.environment(count: 1)) { $1 }
    environment["OMP_NUM_THREADS"] = "1"
    process.environment = environment
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(text)")
    let metrics = try String(
      contentsOfFile: "\(prepared.path)/slurm/metrics.jsonl", encoding: .utf8)
    #expect(metrics.split(separator: "\n").count == 2)
    let options = try String(contentsOfFile: script, encoding: .utf8).split(separator: "\n")
      .filter { $0.hasPrefix("#SBATCH") }
    #expect(options.contains("#SBATCH --gpus-per-task=1"))
  }
}
