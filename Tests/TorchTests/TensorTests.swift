import Testing
import Torch

@Suite struct TensorCreationTests {
  @Test func copiesInAndOut() throws {
    #expect(try Tensor([1, 2, 3] as [Float]).array(of: Float.self) == [1, 2, 3])
  }
}
