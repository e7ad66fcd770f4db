import Foundation

/// A headless Chromium, if one is installed. Without it, tests of pages check less.
public enum Browser {
  public static let path: String? = {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"]
    return names.lazy.flatMap { name in folders.map { "\($0)/\(name)" } }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }()

  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  /// Opens a page in a frame of a given width and runs a script in it.
  ///
  /// - Parameters:
  ///   - page: The file. Another one is created beside it during the call.
  ///   - width: The width of the frame in pixels; headless windows can't be as narrow as a phone.
  ///   - script: The body of an asynchronous function of `page`, the frame's window, and
  ///     `wait(milliseconds)`.
  /// - Returns: The result of the script, as JSON.
  public static func run(_ page: String, width: Int, _ script: String) throws -> Any {
    guard let path else { throw Failure(description: "no browser is installed") }
    let folder = (page as NSString).deletingLastPathComponent
    let outer = "\(folder)/browser-\(UUID().uuidString).html"
    let profile = "\(folder)/browser-\(UUID().uuidString)"
    let text = Data(try String(contentsOfFile: page, encoding: .utf8).utf8).base64EncodedString()
    let html = """
      <!doctype html><meta charset="utf-8"><body><iframe id=f style="width:\(width)px;height:900px;border:0"></iframe><script>
      const wait=t=>new Promise(r=>setTimeout(r,t));
      f.onload=async()=>{let r;try{r=await (async(page,wait)=>{\(script)})(f.contentWindow,wait)}catch(e){r={error:String(e)}}
      console.log('RESULT:'+btoa(unescape(encodeURIComponent(JSON.stringify(r))))+':END')};
      f.srcdoc=new TextDecoder().decode(Uint8Array.from(atob('\(text)'),c=>c.charCodeAt(0)));
      </script>
      """
    try html.write(toFile: outer, atomically: true, encoding: .utf8)
    defer {
      for path in [outer, profile] {
        do { try FileManager.default.removeItem(atPath: path) } catch {
          print("\(path) stays: \(error)")
        }
      }
    }
    try FileManager.default.createDirectory(atPath: profile, withIntermediateDirectories: true)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    // Virtual time doesn't wait for media, so it isn't used; instead, the page logs its result when
    // it has one.
    process.arguments = [
      "timeout", "120", path, "--headless", "--no-sandbox", "--disable-gpu",
      "--window-size=1400,1000",
      "--user-data-dir=\(profile)", "--autoplay-policy=no-user-gesture-required",
      "--enable-logging=stderr",
      "--remote-debugging-port=0", URL(fileURLWithPath: outer).absoluteString,
    ]
    let log = Pipe()
    process.standardOutput = FileHandle.nullDevice
    process.standardError = log
    try process.run()
    let data = Self.result(in: log.fileHandleForReading)
    // `timeout` leads its own process group. SIGTERM would be blocked, because the mask of this
    // thread is inherited.
    kill(-process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    guard let data else { throw Failure(description: "the browser gave no result in two minutes") }
    return try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)
  }

  /// Waits for the page to log its result; nil if the browser exits first.
  private static func result(in log: FileHandle) -> Data? {
    var text = Data()
    while case let part = log.availableData, !part.isEmpty {
      text += part
      guard let start = text.range(of: Data("RESULT:".utf8)),
        let end = text.range(of: Data(":END".utf8), in: start.upperBound..<text.endIndex)
      else { continue }
      return Data(base64Encoded: text[start.upperBound..<end.lowerBound])
    }
    return nil
  }
}
