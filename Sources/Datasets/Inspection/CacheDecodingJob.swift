import Foundation
import Support

/// One cached file to decode.
public struct CacheDecodingJob: Sendable {
  let file: String
  /// The path of the output without its extension, which depends on the content of the file.
  let output: String
  /// The conversion of the file; nil if its folder doesn't determine it, so that the file is
  /// examined.
  let decoding: CacheDecoding?
  /// The latents of the audio that goes into the video.
  var audioFile: String?
  /// The latents that record the frame rate of a mask.
  var rateFile: String?

  /// - Throws: `Issue` if there is nothing to decode.
  static func list(
    _ path: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard FileManager.default.fileExists(atPath: path) else {
      throw Issue(
        [.file(path)], "does not exist",
        suggestion: "Name a cache, one of its folders such as latents, or a file.")
    }
    guard isFolder(path) else { return try file(path, into: output, options) }
    let root = DatasetCache.root(path)
    let isCache = Artifacts.all.flatMap(\.folderNames).contains {
      isFolder("\(root)/\($0)")
    }
    let jobs =
      isCache
      ? try cache(root, into: output, options) : try folder(path, into: output, options)
    guard !jobs.isEmpty else {
      throw Issue([.file(path)], "holds no .safetensors or .pt files to decode")
    }
    return jobs
  }

  private static func cache(
    _ root: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let files = try DatasetCache(path: root).files
    let audio =
      try options.withAudio
      ? options.audioLatents.map(CacheFolder.files) ?? files[.audioLatents] ?? [:] : [:]
    return Artifacts.all.flatMap { artifact -> [CacheDecodingJob] in
      guard let decoding = artifact.decoding else { return [] }
      return (files[artifact.folder] ?? [:]).sorted { $0.key < $1.key }.map { name, path in
        CacheDecodingJob(
          file: path, output: "\(output)/\(decoding.folder)/\(name)", decoding: decoding,
          audioFile: artifact.folder == .latents ? audio[name] : nil,
          rateFile: decoding.takesRate ? files[.latents]?[name] : nil)
      }
    }
  }

  /// Lists the files of one folder. The audio of its videos is also written beside the output
  /// folder, as upstream does.
  private static func folder(
    _ folder: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    let files = try CacheFolder.files(below: folder)
    let artifact = Artifacts.named((absolutePath(folder) as NSString).lastPathComponent)
    let decoding = artifact?.decoding
    if let artifact, decoding == nil {
      throw Issue([.file(folder)], "holds \(artifact.noun), which can't be decoded")
    }
    let beside = (absolutePath(folder) as NSString).deletingLastPathComponent
    var audio: [String: String] = [:]
    if options.withAudio, decoding?.component != .audioVAE {
      let path = options.audioLatents ?? "\(beside)/audio_latents"
      audio = try CacheFolder.files(below: path)
    }
    let latents =
      decoding?.takesRate == true && isFolder("\(beside)/latents")
      ? try CacheFolder.files(below: "\(beside)/latents") : [:]
    var jobs = files.sorted { $0.key < $1.key }.map { name, path in
      CacheDecodingJob(
        file: path, output: "\(output)/\(name)", decoding: decoding,
        audioFile: decoding?.takesAudio ?? true ? audio[name] : nil, rateFile: latents[name])
    }
    let audioOutput =
      (absolutePath(output) as NSString).deletingLastPathComponent + "/decoded_audio"
    jobs += audio.sorted { $0.key < $1.key }.map { name, path in
      CacheDecodingJob(file: path, output: "\(audioOutput)/\(name)", decoding: .audio(into: ""))
    }
    return jobs
  }

  private static func file(
    _ path: String, into output: String, _ options: CacheDecodingOptions
  ) throws -> [CacheDecodingJob] {
    guard CacheFormat(rawValue: (path as NSString).pathExtension) != nil else {
      throw Issue([.file(path)], "is not a cached file, which ends in .safetensors or .pt")
    }
    let name = ((path as NSString).lastPathComponent as NSString).deletingPathExtension
    var job = CacheDecodingJob(file: path, output: "\(output)/\(name)", decoding: nil)
    // The folder of the cache that contains the file, at any depth.
    var parts = absolutePath(path).split(separator: "/").map(String.init)
    var inner = [name]
    parts.removeLast()
    while let last = parts.popLast() {
      let root = "/" + parts.joined(separator: "/")
      if let artifact = Artifacts.named(last) {
        let sample = inner.joined(separator: "/")
        func partner(_ folder: String) throws -> String? {
          isFolder(folder) ? try CacheFolder.files(below: folder)[sample] : nil
        }
        if artifact.decoding?.takesRate == true { job.rateFile = try partner("\(root)/latents") }
        if artifact.folder == .latents, options.withAudio {
          job.audioFile = try partner(options.audioLatents ?? "\(root)/audio_latents")
        }
        break
      }
      inner.insert(last, at: 0)
    }
    return [job]
  }
}
