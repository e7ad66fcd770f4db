/// A file format other than safetensors, recognized by the first bytes.
enum ForeignFormat {
  case gguf
  case zip
  case pickle
  case hdf5
  case gitLFSPointer
  case html

  private static let signatures: [(bytes: [UInt8], format: ForeignFormat)] = [
    (Array("GGUF".utf8), .gguf), (Array("PK\u{3}\u{4}".utf8), .zip), ([0x80, 0x02], .pickle),
    ([0x89] + Array("HDF".utf8), .hdf5), (Array("version https://git-lfs".utf8), .gitLFSPointer),
    (Array("<!DOCTYPE".utf8), .html), (Array("<!doctype".utf8), .html),
    (Array("<html".utf8), .html),
  ]

  init?(_ bytes: UnsafeRawBufferPointer) {
    guard let match = Self.signatures.first(where: { bytes.starts(with: $0.bytes) }) else {
      return nil
    }
    // A safetensors file begins with the length of its header, whose upper bytes are 0, followed by
    // a brace.
    if bytes.count > 8, bytes[7] == 0, bytes[6] == 0, bytes[5] == 0, bytes[8] == UInt8(ascii: "{") {
      return nil
    }
    self = match.format
  }

  /// The format of the file, and what to do.
  var message: String {
    switch self {
    case .gguf:
      "this is a GGUF file, whose packed weights are not supported. Use the model's bfloat16, scaled fp8 or int8 "
        + "safetensors file."
    case .zip, .pickle:
      "this is a file of PyTorch (.pt, .ckpt), not safetensors. Use the model's safetensors file."
    case .hdf5: "this is an HDF5 file, not safetensors. Use the model's safetensors file."
    case .gitLFSPointer:
      "this is a Git LFS pointer, not the file itself. Fetch the file with `git lfs pull`, or download it."
    case .html: "this is a web page, not safetensors. Download the file again."
    }
  }

  /// A suffix for the name of a dtype that other formats use.
  static func title(ofDType name: String) -> String {
    switch name {
    case "F8_E8M0": " (block scales of MXFP8 or MXFP4)"
    case "F4", "F4_E2M1", "F4_E2M1_X2", "F6_E2M3", "F6_E3M2": " (packed floats of NVFP4 or MXFP4)"
    case "C64", "C128": " (complex numbers)"
    default: ""
    }
  }
}
