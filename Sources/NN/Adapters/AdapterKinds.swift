import Torch

/// All kinds of adapters. A new kind is a type that conforms to `Adapter`, and its line here.
public enum AdapterKinds {
  /// A kind comes after the kinds whose tensors it also has: files are recognized from the last to
  /// the first.
  public static let all: [AdapterKind] = [
    LoRAAdapter.kind,
    DoRAAdapter.kind,
    LoKrAdapter.kind,
    LoHaAdapter.kind,
  ]

  /// The kind of an adapter with these tensors; nil if it is unknown.
  public static func kind(of roles: Set<String>) -> AdapterKind? {
    all.last { $0.type.isKind(of: roles) }
  }

  /// The names of roles, by the part of a key after the module's name.
  private static let rolesBySpelling: [String: String] = Dictionary(
    (all.flatMap { $0.type.roles } + [.alpha]).flatMap { role in
      role.spellings.map { ($0, role.name) }
    }, uniquingKeysWith: { first, _ in first })

  /// The module and the role that a key names; nil for other keys.
  public static func role(ofKey key: String) -> (module: String, role: String)? {
    // If several spellings match, the longest one is used: `lora.down.weight`.
    var dots = key.indices.filter { key[$0] == "." }.suffix(5)
    while let dot = dots.popFirst() {
      if let role = rolesBySpelling[String(key[key.index(after: dot)...])] {
        return (String(key[..<dot]), role)
      }
    }
    return nil
  }

  /// The adapters of trained parameters, in the order of the parameters.
  ///
  /// - Parameters:
  ///   - parameters: Parameters whose keys are a module's path, a dot and a role; others are
  ///     skipped.
  ///   - scale: The scale in training.
  /// - Throws: `Issue`.
  public static func adapters(
    of parameters: [Parameter], scale: Double
  ) throws -> [(module: String, adapter: any Adapter)] {
    var modules: [String] = []
    var tensors: [String: [String: Tensor]] = [:]
    for parameter in parameters {
      guard let (module, role) = role(ofKey: parameter.key) else { continue }
      if tensors[module] == nil { modules.append(module) }
      tensors[module, default: [:]][role] = parameter.tensor
    }
    return try modules.compactMap { module in
      guard let tensors = tensors[module], let kind = kind(of: Set(tensors.keys)) else {
        return nil
      }
      let adapter = try kind.type.init(tensors)
      return (module, adapter.rank == nil ? adapter : adapter.with(scale: scale))
    }
  }
}

/// A kind of adapter as a value.
public struct AdapterKind: Sendable, Hashable, RawRepresentable, CaseIterable {
  public let type: any Adapter.Type

  public init(_ type: any Adapter.Type) { self.type = type }

  public init?(rawValue: String) {
    guard let kind = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
    self = kind
  }

  /// `lora`
  public var rawValue: String { type.name }
  /// `LoRA`
  public var title: String { type.title }

  public static var allCases: [AdapterKind] { AdapterKinds.all }
}

/// A tensor of an adapter.
public struct AdapterRole: Sendable {
  /// The tensor's name in training, `lora_A.weight`.
  public let name: String
  /// All names of the tensor in files, after the module's name and a dot.
  public let spellings: [String]

  public init(_ name: String, also others: [String] = []) {
    self.name = name
    spellings = [name] + others
  }

  /// The scale times the rank, a single number that any kind may have in a file.
  public static let alpha = AdapterRole("alpha")
}

/// The naming schemes of adapter files.
public enum AdapterNaming: Sendable {
  /// The scheme of ComfyUI and of LTX-2's own trainers.
  case comfyUI
  case kohya
  /// The scheme of peft and diffusers. peft keeps the alpha beside the file.
  case peft
}

/// The settings of new adapters.
public struct AdapterSettings: Sendable, Equatable {
  public var rank: Int
  public var alpha: Double
  public var scaling = AdapterScaling.alphaOverRank
  /// The desired size of LoKr's small factor in each dimension; -1 for the one nearest to the
  /// square root.
  public var factor = -1
  /// Whether LoKr's small factor is a product too.
  public var decomposesBoth = false
  /// Whether LoKr's large factor is a full matrix, regardless of the rank.
  public var isFullMatrix = false

  public init(rank: Int, alpha: Double, scaling: AdapterScaling = .alphaOverRank) {
    (self.rank, self.alpha, self.scaling) = (rank, alpha, scaling)
  }

  /// The factor of the change.
  public var scale: Double { scaling.scale(alpha: alpha, rank: rank) }
}

/// The rule that turns alpha into the scale of an adapter's change.
public enum AdapterScaling: Sendable, Equatable {
  /// alpha / rank (Hu et al., "LoRA", 2021).
  case alphaOverRank
  /// alpha / sqrt(rank), rsLoRA (Kalajdzievski, "A Rank Stabilization Scaling Factor for
  /// Fine-Tuning with LoRA", 2023). The size of the change stays the same as the rank grows.
  case alphaOverSquareRootOfRank

  public func scale(alpha: Double, rank: Int) -> Double {
    switch self {
    case .alphaOverRank: alpha / Double(rank)
    case .alphaOverSquareRootOfRank: alpha / Double(rank).squareRoot()
    }
  }
}
