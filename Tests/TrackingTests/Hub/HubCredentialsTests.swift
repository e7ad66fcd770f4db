import Foundation
import Support
import Testing

@testable import Tracking

@Suite struct HubCredentialsTests {
  private let folder = TemporaryFolder()

  private func write(_ token: String, to name: String) throws {
    let file = URL(fileURLWithPath: "\(folder.path)/\(name)")
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(token.utf8).write(to: file)
  }

  @Test func whereTheTokenIsFound() throws {
    try write("home\n", to: ".cache/huggingface/token")
    try write("cache", to: "xdg/huggingface/token")
    try write("hf-home", to: "hf/token")
    try write("path", to: "elsewhere")
    var environment = ["HOME": folder.path]
    func found() throws -> String { try HubCredentials(environment: environment).token }
    #expect(try found() == "home")
    environment["XDG_CACHE_HOME"] = folder.path + "/xdg"
    #expect(try found() == "cache")
    environment["HF_HOME"] = folder.path + "/hf"
    #expect(try found() == "hf-home")
    environment["HF_TOKEN_PATH"] = folder.path + "/elsewhere"
    #expect(try found() == "path")
    environment["HUGGING_FACE_HUB_TOKEN"] = "old"
    #expect(try found() == "old")
    environment["HF_TOKEN"] = " new \n"
    #expect(try found() == "new")
    environment["HF_TOKEN"] = ""
    #expect(try found() == "old")
  }

  @Test func anEmptyFileIsNoToken() throws {
    try write(" \n", to: ".cache/huggingface/token")
    let error = #expect(throws: Support.Issue.self) {
      try HubCredentials(environment: ["HOME": folder.path])
    }
    #expect(error?.description.contains(".cache/huggingface/token") == true)
  }

  @Test(arguments: ["hf_a b", "hf_ü", "hf_a\r\nX: y"])
  func aTokenThatNoHeaderCanHold(token: String) {
    #expect(throws: Support.Issue.self) { try HubCredentials(environment: ["HF_TOKEN": token]) }
  }

  @Test(arguments: ["huggingface.co", "file:///etc", "https://"])
  func anEndpointThatIsNone(endpoint: String) {
    #expect(throws: Support.Issue.self) {
      try HubCredentials(environment: ["HF_TOKEN": "t", "HF_ENDPOINT": endpoint])
    }
  }

  @Test func theEndpointIsTheHubs() throws {
    #expect(try HubCredentials(environment: ["HF_TOKEN": "t"]).endpoint == "https://huggingface.co")
  }
}
