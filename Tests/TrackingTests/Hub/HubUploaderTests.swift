import Foundation
import HTTP
import Support
import Synchronization
import Testing

@testable import Tracking

@Suite struct HubUploaderTests {
  private let folder = TemporaryFolder()

  private func uploader(
    _ hub: HubStandIn, _ name: String = "somebody/my-lora", token: String? = HubStandIn.token,
    isPrivate: Bool? = nil
  ) throws -> HubUploader {
    var environment = ["HF_ENDPOINT": hub.address + "/", "HOME": folder.path]
    environment["HF_TOKEN"] = token
    return try HubUploader(
      repository: name, isPrivate: isPrivate, environment: environment,
      retries: RetryPolicy(delays: [0.02, 0.02]),
      progress: { _ in })
  }

  /// Weights of an odd size, a small file, bytes, and an empty file.
  private func items(weights: Int = 100_003) throws -> (
    items: [HubUploader.Item], files: [String: Data]
  ) {
    var files: [String: Data] = [:]
    files["lora.safetensors"] = Data(
      (0..<weights).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) })
    files["config.yaml"] = Data("steps: 3\n".utf8)
    var items: [HubUploader.Item] = []
    for (name, data) in files.sorted(by: { $0.key < $1.key }) {
      let path = "\(folder.path)/\(name)"
      try data.write(to: URL(fileURLWithPath: path))
      items.append(.init(path: name, content: .file(path)))
    }
    files["README.md"] = Data("# ü\n".utf8)
    files["samples/sample_1.mp4"] = Data((0..<5000).map { UInt8(truncatingIfNeeded: $0) })
    files["empty.safetensors"] = Data()
    for name in ["README.md", "samples/sample_1.mp4", "empty.safetensors"] {
      items.append(.init(path: name, content: .bytes(files[name] ?? Data())))
    }
    return (items, files)
  }

  // MARK: Uploads

  @Test(arguments: [nil, 4096, 100_003, 50_001, 100_002] as [Int?])
  func everyFileArrivesInOneCommit(partSize: Int?) throws {
    let hub = try HubStandIn(HubStandIn.Behavior(partSize: partSize))
    let (items, files) = try items()
    let commit = try uploader(hub).upload(items, message: "Weights of step 3")
    let repository = try #require(hub.repository("somebody/my-lora"))
    #expect(repository.files == files)
    #expect(repository.commits.map(\.summary) == ["Weights of step 3"])
    #expect(repository.isPrivate == false)
    #expect(commit.page == "\(hub.address)/somebody/my-lora/commit/0123abcd")
    #expect(commit.repository == "\(hub.address)/somebody/my-lora")
    #expect(commit.ignored == [])
    #expect(!hub.hasLeakedToken)
    #expect(hub.requests.filter { $0.hasPrefix("POST /verify/") }.count == 2)
  }

  @Test func filesOnTheHubAreNotSentAgain() throws {
    let hub = try HubStandIn()
    let (items, files) = try items()
    _ = try uploader(hub).upload(items, message: "one")
    let before = hub.requests.count { $0.contains("/verify/") }
    _ = try uploader(hub).upload(items, message: "two")
    #expect(hub.requests.count { $0.contains("/verify/") } == before)
    #expect(hub.repository("somebody/my-lora")?.commits.map(\.summary) == ["one", "two"])
    #expect(hub.repository("somebody/my-lora")?.files == files)
  }

  @Test func namesWithoutAnOwnerAndOrganizations() throws {
    let hub = try HubStandIn()
    let items = [HubUploader.Item(path: "README.md", content: .bytes(Data("x".utf8)))]
    _ = try uploader(hub, "plain", isPrivate: true).upload(items, message: "m")
    #expect(hub.repository("somebody/plain")?.isPrivate == true)
    _ = try uploader(hub, "films/plain").upload(items, message: "m")
    #expect(hub.repository("films/plain")?.files.count == 1)
  }

  @Test func passingTroubleIsTriedAgain() throws {
    let hub = try HubStandIn(HubStandIn.Behavior(statuses: [503, 429, 200, 500, 200, 502, 504]))
    let (items, files) = try items()
    _ = try uploader(hub).upload(items, message: "m")
    #expect(hub.repository("somebody/my-lora")?.files == files)
  }

  @Test func ignoredFilesAreNamed() throws {
    let hub = try HubStandIn(HubStandIn.Behavior(ignored: ["config.yaml", "lora.safetensors"]))
    let (items, files) = try items()
    let commit = try uploader(hub).upload(items, message: "m")
    #expect(commit.ignored == ["config.yaml", "lora.safetensors"])
    #expect(hub.repository("somebody/my-lora")?.files.count == files.count - 2)
  }

  @Test func equalFilesAreSentOnce() throws {
    let hub = try HubStandIn()
    let items = ["a.mp4", "b.mp4"].map {
      HubUploader.Item(path: $0, content: .bytes(Data("same".utf8)))
    }
    _ = try uploader(hub).upload(items, message: "m")
    #expect(
      hub.repository("somebody/my-lora")?.files == [
        "a.mp4": Data("same".utf8), "b.mp4": Data("same".utf8),
      ])
    #expect(hub.requests.count { $0.contains("/verify/") } == 1)
  }

  /// 300 files need two requests.
  @Test func manyFilesAndALargeOne() throws {
    let hub = try HubStandIn(HubStandIn.Behavior(partSize: 5_000_000))
    let size = 64_000_000
    let path = folder.path + "/large.safetensors"
    try Data(repeating: 7, count: size).write(to: URL(fileURLWithPath: path))
    var items = (0..<300).map {
      HubUploader.Item(path: "f\($0).txt", content: .bytes(Data("\($0)".utf8)))
    }
    items.append(.init(path: "large.safetensors", content: .file(path)))
    _ = try uploader(hub).upload(items, message: "m")
    let files = hub.repository("somebody/my-lora")?.files
    #expect(files?.count == 301)
    #expect(files?["f299.txt"] == Data("299".utf8))
    #expect(files?["large.safetensors"]?.count == size)
    #expect(hub.requests.count { $0.contains("/preupload/") } == 2)
  }

  // MARK: Before training

  @Test func accessIsCheckedWithoutAChange() throws {
    let hub = try HubStandIn()
    try uploader(hub).checkAccess()
    #expect(hub.requests == ["GET /api/whoami-v2"])
    #expect(hub.repository("somebody/my-lora") == nil)
  }

  @Test func onlyCreatingARepositoryShowsAccessToANamespace() throws {
    let hub = try HubStandIn()
    try uploader(hub, "films/a").checkAccess()
    #expect(hub.repository("films/a") != nil)
    let error = #expect(throws: Support.Issue.self) {
      try uploader(hub, "strangers/a").checkAccess()
    }
    #expect(error?.description.contains("strangers/a") == true)
    #expect(error?.description.contains("member of films") == true)
    // An existing repository may still be writable.
    hub.add("strangers/b")
    try uploader(hub, "strangers/b").checkAccess()
  }

  @Test(
    arguments: [
      ["role": "read"], ["role": "fineGrained", "fineGrained": ["scoped": []]],
      [
        "role": "fineGrained",
        "fineGrained": [
          "scoped": [["entity": ["name": "somebody"], "permissions": ["repo.content.read"]]]
        ],
      ],
    ] as [JSON])
  func aTokenThatMayOnlyRead(accessToken: JSON) throws {
    let hub = try HubStandIn(HubStandIn.Behavior(accessToken: accessToken))
    let error = #expect(throws: Support.Issue.self) { try uploader(hub).checkAccess() }
    #expect(error?.description.contains("may only read") == true)
  }

  @Test func aFineGrainedTokenThatMayWrite() throws {
    let scope: JSON = [
      "entity": ["name": "somebody"], "permissions": ["repo.content.read", "repo.write"],
    ]
    let hub = try HubStandIn(
      HubStandIn.Behavior(accessToken: ["role": "fineGrained", "fineGrained": ["scoped": [scope]]]))
    try uploader(hub).checkAccess()
  }

  @Test func anUnknownToken() throws {
    let hub = try HubStandIn()
    let error = #expect(throws: Support.Issue.self) {
      try uploader(hub, token: "hf_wrong").checkAccess()
    }
    #expect(error?.description.contains("does not know the token") == true)
  }

  @Test func noToken() throws {
    let hub = try HubStandIn()
    let error = #expect(throws: Support.Issue.self) { try uploader(hub, token: nil) }
    for part in ["is missing", "/settings/tokens", "HF_TOKEN", "turn the upload off"] {
      #expect(error?.description.contains(part) == true)
    }
  }

  @Test func aHubThatNobodyAnswers() throws {
    let hub = try HubStandIn()
    let uploader = try uploader(hub)
    hub.stop()
    let error = #expect(throws: Support.Issue.self) { try uploader.checkAccess() }
    #expect(error?.description.contains("can't be reached") == true)
  }

  @Test(
    arguments: [
      "", "/a", "a/", "a/b/c", "a b", "-a/b", "a/.b", "a/b-", "a--b", "a/b..c", "a/b.git", "a/ü",
      String(repeating: "a", count: 97), "datasets/foo/bar",
    ])
  func namesThatAreNone(name: String) throws {
    let error = #expect(throws: Support.Issue.self) { try HubRepository(name) }
    #expect(error?.description.contains("'\(name)'") == true)
  }

  @Test(arguments: ["a", "a/b", "A_b.c-d/E.f_g-1"])
  func namesOfRepositories(name: String) throws {
    #expect(try HubRepository(name).description == name)
  }

  // MARK: Refusals

  @Test func refusalsOfTheHubAreReportedAndNothingIsCommitted() throws {
    let (items, _) = try items(weights: 10_000)
    for (behavior, part) in [
      (HubStandIn.Behavior(refusesObjects: true), "your storage is full"),
      (HubStandIn.Behavior(refusesCommit: true), "Invalid metadata in README.md."),
      (HubStandIn.Behavior(partSize: 4096, namesNoETag: true), "no ETag"),
    ] {
      let hub = try HubStandIn(behavior)
      let error = #expect(throws: Support.Issue.self) {
        try uploader(hub).upload(items, message: "m")
      }
      #expect(error?.description.contains(part) == true)
      #expect(hub.repository("somebody/my-lora")?.commits.isEmpty == true)
    }
  }

  @Test func aCardThatTheHubRefusesStopsTheUploadBeforeItBegins() throws {
    let hub = try HubStandIn()
    var (items, _) = try items(weights: 10_000)
    items.removeAll { $0.path == "README.md" }
    items.append(
      .init(path: "README.md", content: .bytes(Data("---\nbase_model: refuse me\n---\n".utf8))))
    let error = #expect(throws: Support.Issue.self) {
      try uploader(hub).upload(items, message: "m")
    }
    #expect(error?.description == "the Hub refuses README.md: \"base_model\" is not a model")
    #expect(!hub.requests.contains { $0.contains("lfs") })
  }

  @Test(arguments: ["../a", "/a", "a//b", "a/./b", ".git/config", ""])
  func pathsThatAreNone(path: String) throws {
    let hub = try HubStandIn()
    #expect(throws: Support.Issue.self) {
      try uploader(hub).upload([.init(path: path, content: .bytes(Data()))], message: "m")
    }
    #expect(hub.requests.isEmpty)
  }

  @Test func missingAndDoubleFiles() throws {
    let hub = try HubStandIn()
    let missing = #expect(throws: Support.Issue.self) {
      try uploader(hub).upload(
        [.init(path: "a", content: .file(folder.path + "/nothing"))], message: "m")
    }
    #expect(missing?.file == folder.path + "/nothing")
    let item = HubUploader.Item(path: "a", content: .bytes(Data("x".utf8)))
    #expect(throws: Support.Issue.self) { try uploader(hub).upload([item, item], message: "m") }
    #expect(hub.requests.isEmpty)
  }

  // MARK: The real client

  @Test(
    .enabled(if: PythonClient.executable != nil, Comment(rawValue: PythonClient.isMissing)),
    arguments: [nil, 4096] as [Int?])
  func theRealClientLeavesTheSame(partSize: Int?) throws {
    let (theirs, ours) = (
      try HubStandIn(HubStandIn.Behavior(partSize: partSize)),
      try HubStandIn(HubStandIn.Behavior(partSize: partSize))
    )
    let (items, files) = try items()
    let source = folder.path + "/source"
    for (name, data) in files {
      let path = URL(fileURLWithPath: "\(source)/\(name)")
      try FileManager.default.createDirectory(
        at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
      try data.write(to: path)
    }
    let script = """
      from huggingface_hub import HfApi, create_repo
      print(HfApi().whoami()["name"])
      repo = create_repo("somebody/my-lora", exist_ok=True)
      create_repo("somebody/my-lora", exist_ok=True)
      print(HfApi().upload_folder(folder_path="source", repo_id="somebody/my-lora", commit_message="m"))
      """
    let (status, output) = try PythonClient.run(
      ["-c", script],
      environment: [
        "HF_ENDPOINT": theirs.address, "HF_TOKEN": HubStandIn.token, "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": folder.path,
      ], in: folder.path)
    #expect(status == 0, "\(output)")
    _ = try uploader(ours).upload(items, message: "m")
    let (real, own) = (theirs.repository("somebody/my-lora"), ours.repository("somebody/my-lora"))
    #expect(real?.files == files)
    #expect(own?.files == real?.files)
    #expect(own?.commits.map(\.paths) == real?.commits.map(\.paths))
  }
}
