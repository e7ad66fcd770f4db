#include "pretend_gpu.h"

#include <algorithm>
#include <csignal>

namespace pretend {
namespace {

// PRETEND_GPU_FAULT: the signal that the process gets at a call of an operation.
struct Fault {
  int signal = 0;
  std::string operation;
  int64_t call = 0;

  Fault() {
    const char *text = getenv("PRETEND_GPU_FAULT");
    if (!text) return;
    char name[128];
    TORCH_CHECK(sscanf(text, "%d %127s %ld", &signal, name, &call) == 3,
                "PRETEND_GPU_FAULT must be \"SIGNAL OPERATION CALL\" (got ", text, ")");
    operation = name;
  }
};

} // namespace

const char *&currentOperation() {
  thread_local const char *operation = "";
  return operation;
}

Book &Book::shared() {
  static auto *book = new Book;
  return *book;
}

void Book::addKernel(const std::string &name, int64_t moved) {
  std::lock_guard<std::mutex> lock(mutex);
  auto &count = operations[name];
  ++count.calls;
  count.bytes += moved;
  bytes += moved;
  ++kernels;
  static const Fault fault;
  if (count.calls == fault.call && name == fault.operation) raise(fault.signal);
}

void Book::addSync() {
  std::lock_guard<std::mutex> lock(mutex);
  ++syncs;
}

void Book::reset() {
  std::lock_guard<std::mutex> lock(mutex);
  operations.clear();
  kernels = syncs = bytes = uploads = pageableBytes = pinnedBytes = downloads = downloadedBytes = sentBytes = 0;
}

// The counts as members of a JSON object; operations by the number of their calls.
void Book::write(FILE *file) {
  fprintf(file,
          "\"kernels\":%ld,\"bytes\":%ld,\"syncs\":%ld,\"uploads\":%ld,\"pageable_bytes\":%ld,\"pinned_bytes\":%ld,"
          "\"downloads\":%ld,\"downloaded_bytes\":%ld,\"sent_bytes\":%ld,\"operations\":{",
          kernels, bytes, syncs, uploads, pageableBytes, pinnedBytes, downloads, downloadedBytes, sentBytes);
  std::vector<std::pair<std::string, Count>> sorted(operations.begin(), operations.end());
  std::sort(sorted.begin(), sorted.end(), [](auto &a, auto &b) { return a.second.calls > b.second.calls; });
  for (size_t i = 0; i < sorted.size(); ++i)
    fprintf(file, "%s\"%s\":[%ld,%ld]", i ? "," : "", sorted[i].first.c_str(), sorted[i].second.calls, sorted[i].second.bytes);
  fprintf(file, "}");
}

void Book::mark(c10::DeviceIndex index, bool isReset) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!getenv("PRETEND_GPU_REPORT")) return;
  char *text = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  auto &arena = Arena::of(index);
  const size_t peak = arena.takePhasePeak();
  fprintf(file, "{\"device\":%d,\"resets_peak\":%s,\"live_bytes\":%zu,\"peak_bytes\":%zu,", int(index), isReset ? "true" : "false",
          arena.live(), peak);
  write(file);
  fprintf(file, "}");
  fclose(file);
  marks.emplace_back(text, size);
  free(text);
}

// One JSON object in one line.
void Book::report(FILE *file) {
  std::lock_guard<std::mutex> lock(mutex);
  fprintf(file, "{\"devices\":[");
  for (int index = 0; index < deviceCount(); ++index) {
    const auto &arena = Arena::of(static_cast<c10::DeviceIndex>(index));
    fprintf(file, "%s{\"live_bytes\":%zu,\"peak_bytes\":%zu,\"allocations\":%zu}", index ? "," : "", arena.live(), arena.peak(),
            arena.allocations());
  }
  fprintf(file, "],\"marks\":[");
  for (size_t i = 0; i < marks.size(); ++i) fprintf(file, "%s%s", i ? "," : "", marks[i].c_str());
  fprintf(file, "],");
  write(file);
  fprintf(file, "}\n");
}

namespace {

const struct ReportAtExit {
  ~ReportAtExit() {
    const char *path = getenv("PRETEND_GPU_REPORT");
    FILE *file = path ? fopen(path, "a") : nullptr;
    if (!file) return;
    Book::shared().report(file);
    fclose(file);
  }
} reportAtExit;

} // namespace
} // namespace pretend

// For programs that measure parts of a run.
extern "C" void pretend_gpu_reset() {
  pretend::Book::shared().reset();
  for (int index = 0; index < pretend::deviceCount(); ++index) pretend::Arena::of(static_cast<c10::DeviceIndex>(index)).resetPeak();
}
