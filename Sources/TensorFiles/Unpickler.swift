import Torch

/// Executes a pickle of protocol 2 to the extent that `torch.save` needs it, and nothing else.
///
/// Values are stored in one flat table and refer to each other by index, like Python's references:
/// a list may be changed after it was stored, and deep nesting needs no stack to build or to free.
/// Only the result, whose depth and size are limited, becomes a tree.
struct Unpickler {
  static let maximumSize = 64 << 20
  static let maximumValues = 4_000_000
  /// The maximum nesting depth of the result. Python's unpickler accepts more, but no real file
  /// does.
  static let maximumDepth = 100

  private enum Item {
    case tensor(Tensor)
    case int(Int)
    case float(Double)
    case string(String)
    case bool(Bool)
    case none
    case list([Int])
    case tuple([Int])
    case dictionary([(Int, Int)])
    case storage(TorchStorage)
    case function(TorchFunction)
  }

  private let reader: ByteReader
  private let storages: TorchStorages
  private var place = 0
  private var instruction = 0  // start of the current instruction, for error messages
  private var items: [Item] = []
  private var stack: [Int] = []
  private var marks: [Int] = []
  private var memo: [Int: Int] = [:]
  private var treeSize = 0

  init(_ pickle: Slice<UnsafeRawBufferPointer>, _ storages: TorchStorages) throws(TensorFileError) {
    guard pickle.count <= Self.maximumSize else {
      throw TensorFileError(
        .limit, path: storages.file.path,
        "the pickle takes \(pickle.count) bytes, more than the \(Self.maximumSize) that are read")
    }
    reader = ByteReader(bytes: UnsafeRawBufferPointer(rebasing: pickle))
    self.storages = storages
  }

  mutating func run() throws -> PickleValue {
    while try step() {}
    guard stack.count == 1, marks.isEmpty else {
      throw bad("the pickle ends with \(stack.count) values")
    }
    return try tree(stack[0], depth: 1)
  }

  /// Executes one instruction; returns false after the last one.
  private mutating func step() throws -> Bool {
    instruction = place
    let code = try take(UInt8.self)
    switch code {
    case 0x80:  // PROTO
      let version = try take(UInt8.self)
      guard version == 2 else {
        throw bad(
          "pickle protocol \(version) is not read; save the file with torch.save's default protocol"
        )
      }
    case UInt8(ascii: "."): return false
    case UInt8(ascii: "("): marks.append(stack.count)
    case UInt8(ascii: "N"): try push(.none)
    case 0x88: try push(.bool(true))
    case 0x89: try push(.bool(false))
    case UInt8(ascii: "J"): try push(.int(Int(take(Int32.self))))
    case UInt8(ascii: "K"): try push(.int(Int(take(UInt8.self))))
    case UInt8(ascii: "M"): try push(.int(Int(take(UInt16.self))))
    case 0x8A: try push(.int(longInteger()))  // LONG1
    case UInt8(ascii: "G"):  // BINFLOAT: big-endian
      try push(.float(Double(bitPattern: take(UInt64.self).byteSwapped)))
    case UInt8(ascii: "X"): try push(.string(text(byteCount: Int(take(UInt32.self)))))
    case UInt8(ascii: "]"): try push(.list([]))
    case UInt8(ascii: "}"): try push(.dictionary([]))
    case UInt8(ascii: ")"): try push(.tuple([]))
    case UInt8(ascii: "t"): try push(.tuple(popToMark()))
    case 0x85...0x87: try push(.tuple(pop(count: Int(code) - 0x84)))
    case UInt8(ascii: "a"): try append([pop()])
    case UInt8(ascii: "e"): try append(popToMark())
    case UInt8(ascii: "s"): try setMembers(pop(count: 2))
    case UInt8(ascii: "u"): try setMembers(popToMark())
    case UInt8(ascii: "q"): try remember(Int(take(UInt8.self)))
    case UInt8(ascii: "r"): try remember(Int(take(UInt32.self)))
    case UInt8(ascii: "h"): try recall(Int(take(UInt8.self)))
    case UInt8(ascii: "j"): try recall(Int(take(UInt32.self)))
    case UInt8(ascii: "c"): try push(.function(global()))
    case UInt8(ascii: "Q"): try push(.storage(storage(persistentID: pop())))
    case UInt8(ascii: "R"): try call()
    case UInt8(ascii: "b"): try dropAttributes()
    default:
      throw bad("instruction 0x\(String(code, radix: 16)) is not one that a file of tensors needs")
    }
    return true
  }

  // MARK: Reading

  private mutating func take<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type
  ) throws(TensorFileError) -> T {
    guard let number = reader.number(at: place, as: T.self) else {
      throw bad("the pickle ends too early")
    }
    place += MemoryLayout<T>.size
    return number
  }

  private mutating func text(byteCount: Int) throws(TensorFileError) -> String {
    guard let bytes = reader.slice(place, byteCount) else { throw bad("the pickle ends too early") }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw bad("a text is not UTF-8")
    }
    place += byteCount
    return text
  }

  /// Reads a two's-complement integer of up to 8 bytes.
  private mutating func longInteger() throws(TensorFileError) -> Int {
    let count = Int(try take(UInt8.self))
    guard count <= 8 else { throw bad("an integer of \(count) bytes is too large") }
    guard let bytes = reader.slice(place, count) else { throw bad("the pickle ends too early") }
    place += count
    let isNegative = (bytes.last ?? 0) & 0x80 != 0
    return bytes.reversed().reduce(isNegative ? -1 : 0) { $0 << 8 | Int($1) }
  }

  private mutating func line() throws(TensorFileError) -> String {
    let rest = reader.bytes[place...].prefix(1000)
    guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else { throw bad("a name has no end") }
    let line = try text(byteCount: end - place)
    place = end + 1
    return line
  }

  private mutating func global() throws(TensorFileError) -> TorchFunction {
    let module = try line()
    let name = try line()
    if let function = TorchFunction(module: module, name: name) { return function }
    if module == "torch", name.hasSuffix("Storage") {
      throw TensorFileError(
        .unsupportedDType, path: storages.file.path,
        "tensors of a torch.\(name) are not supported; convert them")
    }
    throw TensorFileError(
      .forbiddenGlobal, path: storages.file.path, key: "\(module).\(name)",
      "the file asks for a Python object other than a tensor or a plain container; it is refused. "
        + "Save only tensors, numbers, texts, lists and dictionaries")
  }

  // MARK: The stack and the table of values

  private mutating func push(_ item: Item) throws(TensorFileError) {
    guard items.count < Self.maximumValues else {
      throw TensorFileError(
        .limit, path: storages.file.path, "the pickle holds more than \(Self.maximumValues) values")
    }
    stack.append(items.count)
    items.append(item)
  }

  private mutating func pop() throws(TensorFileError) -> Int {
    guard stack.count > (marks.last ?? 0), let top = stack.popLast() else {
      throw bad("the stack is empty")
    }
    return top
  }

  private mutating func pop(count: Int) throws(TensorFileError) -> [Int] {
    guard stack.count - (marks.last ?? 0) >= count else { throw bad("the stack is empty") }
    defer { stack.removeLast(count) }
    return Array(stack.suffix(count))
  }

  private mutating func popToMark() throws(TensorFileError) -> [Int] {
    guard let mark = marks.popLast() else { throw bad("a mark is missing") }
    defer { stack.removeSubrange(mark...) }
    return Array(stack[mark...])
  }

  private func top() throws(TensorFileError) -> Int {
    guard stack.count > (marks.last ?? 0), let top = stack.last else {
      throw bad("the stack is empty")
    }
    return top
  }

  private mutating func remember(_ number: Int) throws(TensorFileError) { memo[number] = try top() }

  private mutating func recall(_ number: Int) throws(TensorFileError) {
    guard let item = memo[number] else { throw bad("value \(number) was never stored") }
    stack.append(item)
  }

  private mutating func append(_ elements: [Int]) throws(TensorFileError) {
    let target = try top()
    guard case .list(var list) = items[target] else {
      throw bad("elements are appended to something else than a list")
    }
    items[target] = .none  // removes the table's copy, so that the list is changed in place
    list += elements
    items[target] = .list(list)
  }

  private mutating func setMembers(_ pairs: [Int]) throws(TensorFileError) {
    let target = try top()
    guard case .dictionary(var members) = items[target], pairs.count % 2 == 0 else {
      throw bad("members are set in something else than a dictionary")
    }
    items[target] = .none
    for index in stride(from: 0, to: pairs.count, by: 2) {
      members.append((pairs[index], pairs[index + 1]))
    }
    items[target] = .dictionary(members)
  }

  /// Drops a dictionary's attributes, which a module's `state_dict()` has.
  private mutating func dropAttributes() throws(TensorFileError) {
    _ = try pop()
    guard case .dictionary = items[try top()] else {
      throw bad("attributes are set on something else than a dictionary")
    }
  }

  // MARK: Tensors

  private func storage(persistentID id: Int) throws(TensorFileError) -> TorchStorage {
    guard case .tuple(let fields) = items[id], fields.count == 5,
      case .string("storage") = items[fields[0]],
      case .function(.storage(let dtype)) = items[fields[1]],
      case .string(let key) = items[fields[2]],
      case .int(let count) = items[fields[4]]
    else { throw bad("a storage is not described as torch.save does it") }
    return try storages.storage(key, dtype, count: count)
  }

  private mutating func call() throws {
    let operands = try pop(count: 2)
    guard case .function(let function) = items[operands[0]],
      case .tuple(let arguments) = items[operands[1]]
    else {
      throw bad("something else than a function is called")
    }
    switch function {
    case .orderedDictionary:
      guard arguments.isEmpty else { throw bad("OrderedDict takes no arguments here") }
      try push(.dictionary([]))
    case .rebuildParameter:
      guard let data = arguments.first, case .tensor = items[data] else {
        throw bad("a parameter is not described as torch.save does it")
      }
      stack.append(data)
    case .rebuildTensor:
      // storage, offset, shape, strides, requires_grad, hooks
      try push(.tensor(tensor(arguments, dtype: nil)))
    case .rebuildTensorOfType:
      // the same arguments, and the dtype
      guard arguments.count > 6, case .function(.dtype(let dtype)) = items[arguments[6]] else {
        throw bad("a tensor is not described as torch.save does it")
      }
      try push(.tensor(tensor(arguments, dtype: dtype)))
    case .storage, .dtype:
      throw bad("a storage or a dtype is called")
    }
  }

  private func tensor(_ arguments: [Int], dtype: DType?) throws -> Tensor {
    guard arguments.count >= 4, case .storage(let storage) = items[arguments[0]],
      case .int(let offset) = items[arguments[1]], let shape = integers(arguments[2]),
      let strides = integers(arguments[3]), let elementType = dtype ?? storage.dtype
    else { throw bad("a tensor is not described as torch.save does it") }
    return try storages.tensor(storage, elementType, shape: shape, strides: strides, offset: offset)
  }

  private func integers(_ id: Int) -> [Int]? {
    guard case .tuple(let fields) = items[id] else { return nil }
    var integers: [Int] = []
    for field in fields {
      guard case .int(let value) = items[field] else { return nil }
      integers.append(value)
    }
    return integers
  }

  // MARK: The result

  private mutating func tree(_ id: Int, depth: Int) throws(TensorFileError) -> PickleValue {
    treeSize += 1
    guard depth <= Self.maximumDepth, treeSize <= Self.maximumValues else {
      throw TensorFileError(
        .limit, path: storages.file.path,
        "the saved object contains itself, is nested deeper than \(Self.maximumDepth) levels, or holds more than "
          + "\(Self.maximumValues) values")
    }
    switch items[id] {
    case .tensor(let tensor): return .tensor(tensor)
    case .int(let value): return .int(value)
    case .float(let value): return .float(value)
    case .string(let value): return .string(value)
    case .bool(let value): return .bool(value)
    case .none: return .none
    case .list(let elements): return .list(try trees(elements, depth + 1))
    case .tuple(let elements): return .tuple(try trees(elements, depth + 1))
    case .dictionary(let pairs):
      var members: [(key: PickleValue, value: PickleValue)] = []
      for (key, value) in pairs {
        members.append((try tree(key, depth: depth + 1), try tree(value, depth: depth + 1)))
      }
      return .dictionary(members)
    case .storage, .function: throw bad("a storage or a class stands where a value should be")
    }
  }

  private mutating func trees(_ ids: [Int], _ depth: Int) throws(TensorFileError) -> [PickleValue] {
    var values: [PickleValue] = []
    for id in ids { values.append(try tree(id, depth: depth)) }
    return values
  }

  private func bad(_ message: String) -> TensorFileError {
    TensorFileError(
      .badPickle, path: storages.file.path, "data.pkl, byte \(instruction): \(message)")
  }
}

/// The Python functions and classes that a pickle may name.
enum TorchFunction {
  case orderedDictionary
  case rebuildTensor
  case rebuildTensorOfType
  case rebuildParameter
  case storage(DType?)
  case dtype(DType)

  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDictionary
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_tensor_v3"): self = .rebuildTensorOfType
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("torch.storage", "UntypedStorage"): self = .storage(nil)
    case ("torch", "FloatStorage"): self = .storage(.float32)
    case ("torch", "DoubleStorage"): self = .storage(.float64)
    case ("torch", "HalfStorage"): self = .storage(.float16)
    case ("torch", "BFloat16Storage"): self = .storage(.bfloat16)
    case ("torch", "CharStorage"): self = .storage(.int8)
    case ("torch", "ShortStorage"): self = .storage(.int16)
    case ("torch", "IntStorage"): self = .storage(.int32)
    case ("torch", "LongStorage"): self = .storage(.int64)
    case ("torch", "ByteStorage"): self = .storage(.uint8)
    case ("torch", "BoolStorage"): self = .storage(.bool)
    case ("torch", _):
      guard let dtype = DType(rawValue: name) else { return nil }
      self = .dtype(dtype)
    default: return nil
    }
  }
}
