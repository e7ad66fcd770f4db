import Foundation
import Testing

/// With an FFmpeg that has no x264, videos are MPEG-4, and the program says so.
@Suite struct OtherEncoderTests {
  /// A library that hides x264 from the program.
  private func libraryWithoutX264(in folder: String) throws -> String {
    let source = "\(folder)/hide.c"
    try Data(
      """
      #define _GNU_SOURCE
      #include <dlfcn.h>
      #include <string.h>
      const void *avcodec_find_encoder_by_name(const char *name) {
        if (!strcmp(name, "libx264")) return 0;
        const void *(*find)(const char *) = dlsym(RTLD_NEXT, "avcodec_find_encoder_by_name");
        return find(name);
      }
      """.utf8
    ).write(to: URL(fileURLWithPath: source))
    let library = "\(folder)/libhide.so"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["clang", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    try process.run()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    return library
  }

  @Test func videosAreWrittenAsMPEG4() throws {
    let workshop = try Workshop()
    let environment = ["LD_PRELOAD": try libraryWithoutX264(in: workshop.path)]
    let note =
      "note: the installed FFmpeg has no encoder for H.264 (libx264), so videos are written as "
      + "MPEG-4 Part 2\n"
    let drawn = try Program.run(
      ["demo-data", "out", "--clips", "3", "--film"], in: workshop.path,
      environment: environment)
    #expect(drawn.status == 0 && drawn.errors.contains(note), "\(drawn.errors)")
    let split = try Program.run(
      ["split", "out/film.mp4", "out/scenes"], in: workshop.path, environment: environment)
    #expect(split.status == 0 && split.errors.contains(note), "\(split.errors)")
    for name in ["film.mp4", "scenes/film-Scene-002.mp4"] {
      let data = try Data(contentsOf: URL(fileURLWithPath: "\(workshop.path)/out/\(name)"))
      // The names of the formats in the table of samples.
      #expect(data.range(of: Data("mp4v".utf8)) != nil, "\(name)")
      #expect(data.range(of: Data("avc1".utf8)) == nil, "\(name)")
    }
    let usual = try Program.run(
      ["split", "out/film.mp4", "out/again"], in: workshop.path)
    #expect(usual.status == 0 && !usual.errors.contains("MPEG-4"), "\(usual.errors)")
  }
}
