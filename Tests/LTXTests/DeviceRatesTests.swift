import BlockExecution
import Foundation
import TestSupport
import Testing
import Torch

@testable import LTX

/// The rates of a device that earlier runs have measured.
@Suite struct DeviceRatesTests {
  private func rates(_ upload: Double) -> DeviceRates {
    DeviceRates(upload: upload, products: 2e9, launch: 3e-6)
  }

  @Test func knownRatesAreNotMeasuredAgain() throws {
    let scratch = try ScratchFolder()
    let path = scratch.file("rates.json")
    let known = try [DeviceRates.key(.cpu): rates(1e9), "another device": rates(5e9)]
    try JSONEncoder().encode(known).write(to: URL(fileURLWithPath: path))
    #expect(try DeviceRates.of(.cpu, cache: path) == rates(1e9))
  }

  @Test(arguments: ["", "[1, 2]", "{", "-5e9", "0"])
  func uselessRatesAreMeasuredAgainAndStored(text: String) throws {
    let scratch = try ScratchFolder()
    let path = scratch.file("rates.json")
    var content = Data(text.utf8)
    if let upload = Double(text) {
      content = try JSONEncoder().encode([
        DeviceRates.key(.cpu): rates(upload), "another device": rates(5e9),
      ])
    }
    try content.write(to: URL(fileURLWithPath: path))
    let measured = try DeviceRates.of(.cpu, cache: path)
    #expect(measured.upload > 0 && measured.products > 0 && measured.launch > 0)
    let stored = try JSONDecoder().decode(
      [String: DeviceRates].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    #expect(try stored[DeviceRates.key(.cpu)] == measured)
    #expect(Double(text) == nil || stored["another device"] == rates(5e9), "others are kept")
  }
}
