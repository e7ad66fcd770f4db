import Foundation

/// One cached file that is to be decoded.
public struct CacheDecodingJob: Sendable {
  enum Content: Sendable {
    case video, audio, mask

    /// - Throws: `DatasetError` for a file that holds nothing to decode.
    init(of file: SampleFile, path: String) throws {
      if file.has("mask") {
        self = .mask
      } else if file.has("latents") {
        let rank = try file.tensorShape("latents").count
        self = rank == 3 || file.has("num_time_steps") ? .audio : .video
      } else {
        throw DatasetError(
          path: path, problem: "holds neither latents nor a mask, so there is nothing to decode")
      }
    }
  }

  let file: String
  /// Without the ending, which depends on what is found in the file.
  let output: String
  /// Nil where the folder does not tell: then the file does.
  let content: Content?
  /// Latents of the sound that goes into the video.
  var audioFile: String?
  /// Latents that know the frame rate of a mask.
  var rateFile: String?

  /// What the folder is called that a whole cache's folder is decoded into; the reference's names
  /// where it has some.
  private static func outputFolder(_ content: CacheFolder) -> String? {
    switch content {
    case .latents: "decoded_videos"
    case .referenceLatents: "decoded_reference_videos"
    case .audioLatents: "decoded_audio"
    case .referenceAudioLatents: "decoded_reference_audio"
    case .videoMasks: "decoded_video_masks"
    case .audioMasks: "decoded_audio_masks"
    case .conditions: nil
    }
  }

  /// - Throws: `DatasetError` where there is nothing to decode.
  static func list(
    _ path: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard FileManager.default.fileExists(atPath: path) else {
      throw DatasetError(
        path: path,
        problem: "does not exist; name a cache, one of its folders such as latents, or a file")
    }
    guard DatasetCache.isFolder(path) else { return try file(path, into: output, options) }
    let root = DatasetCache.root(path)
    let contents = CacheFolder.allCases.filter { content in
      content.folderNames.contains { DatasetCache.isFolder("\(root)/\($0)") }
    }
    let jobs =
      contents.isEmpty
      ? try folder(path, into: output, options) : try cache(root, contents, into: output, options)
    guard !jobs.isEmpty else {
      throw DatasetError(path: path, problem: "holds no .safetensors or .pt files to decode")
    }
    return jobs
  }

  private static func cache(
    _ root: String, _ contents: [CacheFolder], into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let files = try DatasetCache(path: root).files
    let audio =
      try options.withAudio
      ? options.audioLatents.map(CacheFolder.files) ?? files[.audioLatents] ?? [:] : [:]
    return contents.flatMap { content -> [CacheDecodingJob] in
      guard let folder = outputFolder(content) else { return [] }
      return (files[content] ?? [:]).sorted { $0.key < $1.key }.map { name, path in
        CacheDecodingJob(
          file: path, output: "\(output)/\(folder)/\(name)", content: content.decoded,
          audioFile: content == .latents ? audio[name] : nil,
          rateFile: content == .videoMasks ? files[.latents]?[name] : nil)
      }
    }
  }

  /// Sounds of a folder of videos are written beside its output folder, as the reference does.
  private static func folder(
    _ folder: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let files = try CacheFolder.files(below: folder)
    let content = CacheFolder.allCases.first {
      $0.folderNames.contains((absolutePath(folder) as NSString).lastPathComponent)
    }
    if content == .conditions {
      throw DatasetError(path: folder, problem: "holds text features, which can't be decoded")
    }
    let beside = (absolutePath(folder) as NSString).deletingLastPathComponent
    var audio: [String: String] = [:]
    if options.withAudio, content?.decoded != .audio {
      let path = options.audioLatents ?? "\(beside)/audio_latents"
      audio = try CacheFolder.files(below: path)
    }
    let latents =
      content == .videoMasks && DatasetCache.isFolder("\(beside)/latents")
      ? try CacheFolder.files(below: "\(beside)/latents") : [:]
    var jobs = files.sorted { $0.key < $1.key }.map { name, path in
      CacheDecodingJob(
        file: path, output: "\(output)/\(name)", content: content?.decoded,
        audioFile: content?.decoded == .mask ? nil : audio[name], rateFile: latents[name])
    }
    let audioOutput =
      (absolutePath(output) as NSString).deletingLastPathComponent + "/decoded_audio"
    jobs += audio.sorted { $0.key < $1.key }.map { name, path in
      CacheDecodingJob(file: path, output: "\(audioOutput)/\(name)", content: .audio)
    }
    return jobs
  }

  private static func file(
    _ path: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    guard ["safetensors", "pt"].contains((path as NSString).pathExtension) else {
      throw DatasetError(path: path, problem: "is no cached file: those end in .safetensors or .pt")
    }
    let name = ((path as NSString).lastPathComponent as NSString).deletingPathExtension
    var job = CacheDecodingJob(file: path, output: "\(output)/\(name)", content: nil)
    // The folder of the cache that the file lies in, however deep.
    var parts = absolutePath(path).split(separator: "/").map(String.init)
    var inner = [name]
    parts.removeLast()
    while let last = parts.popLast() {
      let root = "/" + parts.joined(separator: "/")
      if let content = CacheFolder.allCases.first(where: { $0.folderNames.contains(last) }) {
        let sample = inner.joined(separator: "/")
        func partner(_ folder: String) throws -> String? {
          DatasetCache.isFolder(folder) ? try CacheFolder.files(below: folder)[sample] : nil
        }
        if content == .videoMasks { job.rateFile = try partner("\(root)/latents") }
        if content == .latents, options.withAudio {
          job.audioFile = try partner(options.audioLatents ?? "\(root)/audio_latents")
        }
        break
      }
      inner.insert(last, at: 0)
    }
    return [job]
  }
}

extension CacheFolder {
  /// What a file is decoded to; nil for text features.
  var decoded: CacheDecodingJob.Content? {
    switch self {
    case .latents, .referenceLatents: .video
    case .audioLatents, .referenceAudioLatents: .audio
    case .videoMasks, .audioMasks: .mask
    case .conditions: nil
    }
  }
}
