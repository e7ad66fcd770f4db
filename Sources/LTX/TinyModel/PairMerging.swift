/// A pair of tokens that merges into one.
struct Merge: Hashable {
  let left: String
  let right: String
  var result: String { left + right }
}

/// Learns the merges of a byte-pair encoding (Sennrich, Haddow and Birch, 2016): the most frequent
/// pair of neighbors becomes a token, repeatedly.
enum PairMerging {
  /// - Parameter count: The max number of merges; there are fewer if no pair occurs twice.
  /// - Returns: The merges in the order in which they were learned. Of equally frequent pairs the
  ///   alphabetically first is merged.
  static func learn(from sentences: [String], count: Int) -> [Merge] {
    var words: [[String]: Int] = [:]
    for sentence in sentences {
      for (index, word) in sentence.split(separator: " ").enumerated() {
        words[(index == 0 ? [] : ["\u{2581}"]) + word.map(String.init), default: 0] += 1
      }
    }
    var merges: [Merge] = []
    // Different pairs may give the same token; the vocabulary has it once.
    var results: Set<String> = []
    while merges.count < count {
      var frequencies: [Merge: Int] = [:]
      for (symbols, frequency) in words {
        for (left, right) in zip(symbols, symbols.dropFirst()) where isWord(left) && isWord(right) {
          frequencies[Merge(left: left, right: right), default: 0] += frequency
        }
      }
      let candidates = frequencies.filter { $0.value > 1 && !results.contains($0.key.result) }
      let best = candidates.min { a, b in
        (b.value, a.key.left, a.key.right) < (a.value, b.key.left, b.key.right)
      }
      guard let merge = best?.key else { break }
      merges.append(merge)
      results.insert(merge.result)
      words = words.reduce(into: [:]) { $0[apply(merge, to: $1.key), default: 0] += $1.value }
    }
    return merges
  }

  /// Punctuation stays alone.
  private static func isWord(_ symbol: String) -> Bool {
    symbol.allSatisfy { $0.isLetter || $0 == "\u{2581}" }
  }

  private static func apply(_ merge: Merge, to symbols: [String]) -> [String] {
    var result: [String] = []
    for symbol in symbols {
      if symbol == merge.right, result.last == merge.left {
        result[result.count - 1] = merge.result
      } else {
        result.append(symbol)
      }
    }
    return result
  }
}

/// The training text of the tiny model's vocabulary: the words of captions.
package enum TinyCaptions {
  package static let sentences: [String] = [
    "The camera pans slowly to the left and reveals a wide valley with a river in the morning light.",
    "A woman in a red coat walks along the street and the wind moves her hair.",
    "A man with a grey beard sits at a wooden table and looks into the camera.",
    "The scene shows a quiet room, a window on the right, and soft light on the floor.",
    "Two children run across the green field while the sun sets behind the mountains.",
    "A close-up of a hand that holds a small glass of water against a dark background.",
    "Slow waves of blue light move over a calm sea under a bright sky.",
    "A dog jumps over a fallen tree in the forest and runs toward the viewer.",
    "The video shows a busy city at night with cars, neon signs and people on the street.",
    "A black cat sleeps on a white chair near the window, then opens its eyes.",
    "Green cells live and die on a dark board; the pattern grows and falls apart.",
    "The camera moves forward through a long corridor with white walls and bright lamps.",
    "A young man is playing the piano in a dark hall while music fills the room.",
    "Rain falls on the road, and the lights of passing cars are reflected in the water.",
    "An old house stands alone on a hill; clouds are moving quickly above it.",
    "A train is passing through the snow, with mountains in the background.",
    "She is talking to the camera and smiling; her voice is calm and clear.",
    "The shot is filmed with a handheld camera, and the focus changes from the flowers to the face.",
    "A test card with bright bars, colours and a running clock in the centre of the frame.",
    "The camera falls into a glowing fractal coast with sharp details and deep colours.",
    "A bird is flying over the ocean, its wings moving slowly in the golden light.",
    "People are dancing in a large hall; the sound of drums and a crowd can be heard.",
    "A yellow car turns the corner, stops at the red light, and drives on.",
    "Smoke is rising from a cup of coffee that stands on a table beside an open book.",
    "This is a cinematic shot of a robot that walks through an empty street at sunset.",
    "There is no sound except the wind and the steps of the person who is walking away.",
    "From above, the camera shows how the boat crosses the lake and leaves a white line behind.",
    "The style is realistic, with natural colours, soft shadows and a shallow depth of field.",
    "Leaves are falling from the trees as the children walk home from school in autumn.",
    "He opens the door, enters the room, turns on the lamp and sits down in the chair.",
    "Anime style animation of a girl with long hair standing under a large moon in the night sky.",
    "Fire and sparks fly through the dark air while a blacksmith works with hot metal.",
  ]
}
