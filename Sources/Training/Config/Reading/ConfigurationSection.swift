/// A section whose keys are listed once, for both reading and writing.
protocol ConfigurationSection: Sendable {
  init()
  static var fields: [Field<Self>] { get }
  /// Reads the keys that `fields` can't express, and checks values against each other.
  mutating func complete(_ reader: SectionReader)
}

extension ConfigurationSection {
  mutating func complete(_ reader: SectionReader) {}

  init(reading reader: SectionReader) {
    self.init()
    for field in Self.fields { field.read(reader, &self) }
    complete(reader)
    reader.finish()
  }

  var written: ConfigurationValue { .mapping(Self.fields.map { $0.entry(self) }) }
}

extension Rule where Value: ConfigurationSection {
  static var section: Rule { .section(Value.init(reading:), write: \.written) }
}

/// A key of a section.
struct Field<Section: ConfigurationSection>: Sendable {
  let key: String
  let read: @Sendable (SectionReader, inout Section) -> Void
  /// Whether the official trainer lacks the key.
  private let isExtension: Bool
  /// Whether the results of a run depend on the key, so that a run can't be resumed with another
  /// value.
  private let affectsResult: Bool
  private let write: @Sendable (Section) -> ConfigurationValue

  /// - Parameter isRequired: whether the key has no default.
  init<Value>(
    _ key: String, _ path: WritableKeyPath<Section, Value> & Sendable, _ rule: Rule<Value>,
    isRequired: Bool = false, isExtension: Bool = false, affectsResult: Bool = true
  ) {
    self.key = key
    (self.isExtension, self.affectsResult) = (isExtension, affectsResult)
    read = { reader, section in
      if let value = isRequired ? reader.required(key, rule) : reader.read(key, rule) {
        section[keyPath: path] = value
      }
    }
    write = { rule.write($0[keyPath: path]) }
  }

  /// A section, which may be omitted if none of its keys is required.
  init<Value: ConfigurationSection>(
    _ key: String, _ path: WritableKeyPath<Section, Value> & Sendable, isExtension: Bool = false,
    affectsResult: Bool = true
  ) {
    self.key = key
    (self.isExtension, self.affectsResult) = (isExtension, affectsResult)
    read = { reader, section in
      guard reader.has(key) else {
        section[keyPath: path] = Value(reading: reader.absentSection(key))
        return
      }
      if let value: Value = reader.read(key, Rule<Value>.section) { section[keyPath: path] = value }
    }
    write = { $0[keyPath: path].written }
  }

  fileprivate func entry(_ section: Section) -> ConfigurationValue.Entry {
    var entry = ConfigurationValue.Entry(key, write(section))
    entry.isExtension = isExtension
    entry.isImplied = isExtension && entry.value == write(Section())
    entry.affectsResult = affectsResult
    return entry
  }
}
