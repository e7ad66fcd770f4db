// Loads libCTorch.so at the first call into it; docs/decisions.md explains why not earlier.

#include "loader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *const *ct_library_functions;

static char problem[1024]; // empty after a successful load; written only inside pthread_once

const char *ct_load_problem(void) { return problem; }

// libgomp reads its settings when it is loaded. By default its threads spin for milliseconds while
// they wait, which takes the cores from other processes, and from the thread that they wait for.
static void limit_spinning(void) {
  if (!getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT")) setenv("GOMP_SPINCOUNT", "1000", 0);
}

static void load(void) {
  limit_spinning();
  // A bare name is searched along this program's run path, where SwiftPM puts the program's folder
  // ($ORIGIN). The symbols are global, as if the program were linked to the library, because
  // libtorch's CUDA part is loaded later and needs them.
  void *library = dlopen("libCTorch.so", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    snprintf(problem, sizeof problem,
             "%s. libCTorch.so belongs in the folder of the program; the libtorch that it needs is set up by "
             "Scripts/bootstrap",
             dlerror());
    return;
  }
  const char *interface = dlsym(library, "ct_interface");
  ct_library_functions = dlsym(library, "ct_functions");
  if (!interface || !ct_library_functions || strcmp(interface, ct_expected_interface) != 0)
    snprintf(problem, sizeof problem, "libCTorch.so is not from the same build as the program; build both again");
}

bool ct_load(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return !problem[0];
}
