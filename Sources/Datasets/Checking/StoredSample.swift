import TensorFiles
import Torch

/// A cached file as it is stored, for looking at it: names, shapes and bytes, without running a tensor operation, which
/// would load libtorch first. (A `.pt` file is unpickled, and that does.)
struct StoredSample {
  struct Array {
    let shape: [Int]
    let dtype: DType
  }

  private enum Content {
    case safetensors(SafetensorsFile)
    case torch(TorchFile)
  }

  let path: String
  /// What the file was made from; empty where nothing says.
  let metadata: [String: String]
  /// The tensors by name; numbers that `.pt` keeps as they are not among them.
  let arrays: [String: Array]
  private let content: Content

  /// - Throws: `TensorFileError` that tells what is wrong with the file.
  init(path: String) throws {
    self.path = path
    if path.hasSuffix(".pt") {
      let file = try TorchFile(path: path)
      metadata = try SampleFile(path: path).metadata
      var arrays: [String: Array] = [:]
      for (key, value) in file.root.members ?? [] {
        if let name = key.string, let tensor = value.tensor {
          arrays[name] = Array(shape: tensor.shape, dtype: tensor.dtype)
        }
      }
      self.arrays = arrays
      content = .torch(file)
    } else {
      let file = try SafetensorsFile(path: path)
      metadata = file.metadata
      arrays = file.entries.mapValues { Array(shape: $0.shape, dtype: $0.dtype) }
      content = .safetensors(file)
    }
  }

  /// Lends the elements of a tensor in order.
  func withBytes<R>(of key: String, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    switch content {
    case .safetensors(let file): try file.withUnsafeBytes(of: key, body)
    case .torch(let file): try file.tensor(key).contiguous().withUnsafeBytes(body)
    }
  }

  /// A number: a tensor of one element or, in `.pt`, the number itself; nil where there is none of that name.
  ///
  /// - Throws: `DatasetError` for a tensor of several elements.
  func number(_ key: String) throws -> Double? {
    guard let array = arrays[key] else {
      if case .torch(let file) = content { return file.root[key]?.number }
      return nil
    }
    guard array.shape.reduce(1, *) == 1 else {
      throw DatasetError(path: path, problem: "\(key) has shape \(array.shape); expected one number")
    }
    return try withBytes(of: key) { bytes in
      switch array.dtype {
      case .int64: Double(bytes.loadUnaligned(as: Int64.self))
      case .int32: Double(bytes.loadUnaligned(as: Int32.self))
      case .int16: Double(bytes.loadUnaligned(as: Int16.self))
      case .int8: Double(bytes.loadUnaligned(as: Int8.self))
      case .uint8, .bool: Double(bytes.loadUnaligned(as: UInt8.self))
      case .float64: bytes.loadUnaligned(as: Double.self)
      case .float32: Double(bytes.loadUnaligned(as: Float.self))
      case .bfloat16:
        Double(Float(bitPattern: UInt32(bytes.loadUnaligned(as: UInt16.self)) << 16))
      case .float16, .float8E4M3, .float8E5M2: nil
      }
    }
  }

  /// How many elements of a mask are not 0.
  func count(nonZeroIn key: String) throws -> Int {
    guard let array = arrays[key] else { return 0 }
    let size = array.dtype.size
    return try withBytes(of: key) { bytes in
      stride(from: 0, to: bytes.count, by: size).count { start in
        bytes[start..<start + size].contains { $0 != 0 }
      }
    }
  }
}

/// What the elements of a tensor are like, found from their bytes.
struct NumberScan: Equatable {
  /// Whether any is not a number; whether any is infinite.
  var hasNaN = false
  var hasInfinity = false
  var isAllZero = true

  /// Integers are never anything but finite.
  init(_ bytes: UnsafeRawBufferPointer, _ dtype: DType) {
    switch dtype {
    case .bfloat16: scan(Self.largest(bytes, mask: UInt16(0x7FFF)), infinity: 0x7F80)
    case .float16: scan(Self.largest(bytes, mask: UInt16(0x7FFF)), infinity: 0x7C00)
    case .float32: scan(Self.largest(bytes, mask: UInt32(0x7FFF_FFFF)), infinity: 0x7F80_0000)
    case .float64:
      scan(Self.largest(bytes, mask: UInt64(0x7FFF_FFFF_FFFF_FFFF)), infinity: 0x7FF0_0000_0000_0000)
    case .float8E4M3: scan(Self.largest(bytes, mask: UInt8(0x7F)), infinity: 0x7F, infinityIsNaN: true)
    case .float8E5M2: scan(Self.largest(bytes, mask: UInt8(0x7F)), infinity: 0x7C)
    case .int8, .int16, .int32, .int64, .uint8, .bool: isAllZero = !bytes.contains { $0 != 0 }
    }
  }

  private mutating func scan<Word: FixedWidthInteger>(
    _ largest: Word, infinity: Word, infinityIsNaN: Bool = false
  ) {
    // Without their signs, floating-point numbers are ordered as integers; infinity is above all numbers, NaN above it.
    hasNaN = largest > infinity || (infinityIsNaN && largest == infinity)
    hasInfinity = largest == infinity && !infinityIsNaN
    isAllZero = largest == 0
  }

  private static func largest<Word: FixedWidthInteger & BitwiseCopyable>(
    _ bytes: UnsafeRawBufferPointer, mask: Word
  ) -> Word {
    var largest: Word = 0
    let size = MemoryLayout<Word>.size
    for index in 0..<bytes.count / size {
      largest = max(largest, bytes.loadUnaligned(fromByteOffset: index * size, as: Word.self) & mask)
    }
    return largest
  }
}
