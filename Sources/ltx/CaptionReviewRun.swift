import CaptionReview
import Datasets
import Glibc
import Support

/// Serves the review page of a dataset until Ctrl-C.
///
/// The address is only printed, because it has the token: a browser that was started with it would
/// show it in the list of processes.
func reviewCaptions(_ dataset: String, columns: [Role: String], port: Int) throws {
  let interruption = Interruption()
  let options: SubjectTable = [
    ["port"]: "--port", ["columns", "video"]: "--video-column",
    ["columns", "caption"]: "--caption-column",
  ]
  let server = try checkingInput(options) {
    try ReviewServer(dataset: dataset, columns: columns, port: port)
  }
  defer { server.close() }
  interruption.waitsForCaller()
  print("\(counted(server.rowCount, "row")): review the captions at\n  \(server.address)")
  printError("Ctrl-C ends the review. Save in the page first.")
  while interruption.status == nil { usleep(100_000) }
}
