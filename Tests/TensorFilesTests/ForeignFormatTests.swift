import Foundation
import TensorFiles
import Testing

/// Files in formats other than safetensors.
@Suite struct ForeignFormatTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private static let files: [(bytes: [UInt8], kind: String)] = [
    ([0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0], "a GGUF file"),
    ([0x50, 0x4B, 3, 4, 0, 0], "a file of PyTorch"),
    ([0x80, 0x02, 0x8A], "a file of PyTorch"),
    ([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A], "an HDF5 file"),
    (
      Array("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".utf8),
      "a Git LFS pointer"
    ),
    (Array("<!DOCTYPE html><html></html>".utf8), "a web page"),
  ]

  @Test(arguments: files)
  func aFileOfAnotherKindIsNamed(_ bytes: [UInt8], _ kind: String) throws {
    let path = scratch("model.safetensors")
    try Data(bytes).write(to: URL(filePath: path))
    let error = #expect(throws: TensorFileError.self) { try openTensors(at: path) }
    #expect(
      error?.kind == .foreignFormat && error?.description.contains(kind) == true,
      "\(String(describing: error))")
    #expect(error?.description.hasPrefix(path) == true)
  }

  @Test func aFolderOfGGUFFilesIsNamed() throws {
    try Data("GGUF".utf8).write(to: URL(filePath: scratch("gemma-3-12b-Q4_K_M.gguf")))
    let error = #expect(throws: TensorFileError.self) { try openTensors(at: scratch.path) }
    #expect(error?.kind == .foreignFormat && error?.path.hasSuffix("Q4_K_M.gguf") == true)
  }

  @Test(arguments: [("F8_E8M0", "MXFP8"), ("F4", "NVFP4"), ("C64", "complex")])
  func aDtypeOfAnotherFormatIsNamed(_ dtype: String, _ what: String) throws {
    let header = Array("{\"a\":{\"dtype\":\"\(dtype)\",\"shape\":[0],\"data_offsets\":[0,0]}}".utf8)
    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian, Array.init)
    let path = scratch("model.safetensors")
    try Data(length + header).write(to: URL(filePath: path))
    let error = #expect(throws: TensorFileError.self) { try openTensors(at: path) }
    #expect(
      error?.key == "a" && error?.description.contains(what) == true, "\(String(describing: error))"
    )
  }

  /// The length of a header can look like another format's first bytes.
  @Test func aHeaderOfAnUnluckyLengthIsRead() throws {
    // "GGUF" as a length would be beyond the limit, but 0x0280 is the length of a small header.
    var header = Array("{}".utf8)
    header += [UInt8](repeating: 0x20, count: 0x0280 - header.count)
    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian, Array.init)
    let path = scratch("model.safetensors")
    try Data(length + header).write(to: URL(filePath: path))
    #expect(try openTensors(at: path).entries.isEmpty)
  }
}
