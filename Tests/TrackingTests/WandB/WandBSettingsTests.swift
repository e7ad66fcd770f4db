import Foundation
import Support
import Testing

@testable import Tracking

@Suite struct WandBSettingsTests {
  private let folder = TemporaryFolder()

  @Test(
    arguments: [
      ([:], .online), (["WANDB_MODE": "offline"], .offline), (["WANDB_MODE": "dryrun"], .offline),
      (["WANDB_MODE": "disabled"], .disabled), (["WANDB_DISABLED": "true"], .disabled),
    ] as [([String: String], WandBSettings.Mode)])
  func modes(environment: [String: String], mode: WandBSettings.Mode) throws {
    let settings = try WandBSettings(
      environment: environment.merging(["WANDB_API_KEY": "k"]) { $1 })
    #expect(settings.mode == mode)
  }

  @Test func anUnknownModeIsAnError() {
    let error = #expect(throws: Support.Issue.self) {
      try WandBSettings(environment: ["WANDB_MODE": "onlin"])
    }
    #expect(error?.description.contains("got onlin") == true)
  }

  @Test func withoutAKeyTheErrorSaysWhatToDo() {
    let error = #expect(throws: Support.Issue.self) {
      try WandBSettings(environment: ["HOME": folder.path])
    }
    for part in [
      "api.wandb.ai", "https://wandb.ai/authorize", "WANDB_API_KEY", "WANDB_MODE=offline",
    ] {
      #expect(error?.description.contains(part) == true)
    }
  }

  @Test(arguments: ["ftp://host", "wandb.ai", "https://"])
  func anAddressThatIsNoneIsAnError(address: String) {
    #expect(throws: Support.Issue.self) {
      try WandBSettings(environment: ["WANDB_BASE_URL": address, "WANDB_API_KEY": "k"])
    }
  }

  @Test func theKeyOfTheEnvironmentIsBeforeThatOfNetrc() throws {
    try "machine api.wandb.ai login user password from-file".write(
      toFile: folder.path + "/.netrc", atomically: true, encoding: .utf8)
    let home = ["HOME": folder.path]
    #expect(try WandBSettings(environment: home).key == "from-file")
    #expect(
      try WandBSettings(environment: home.merging(["WANDB_API_KEY": "mine"]) { $1 }).key == "mine")
    // A self-hosted server needs its own key.
    #expect(throws: Support.Issue.self) {
      try WandBSettings(
        environment: home.merging(["WANDB_BASE_URL": "https://wandb.example"]) { $1 })
    }
  }

  @Test(
    arguments: [
      ("machine a login u password p", "p"), ("machine a\n  login u\n  password p\n", "p"),
      ("machine b password q machine a password p", "p"), ("default password d", "d"),
      ("machine a password p default password d", "p"),
      ("# machine a password x\nmachine a password p", "p"),
      ("macdef init\nmachine a password x\n\nmachine a password p", "p"),
      ("machine a login password", nil),
      ("", nil),
    ] as [(String, String?)])
  func netrc(text: String, password: String?) { #expect(Netrc(text).password(of: "a") == password) }
}
