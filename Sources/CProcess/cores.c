// The cores that a thread may use. Swift does not import the macros for cpu_set_t.

#define _GNU_SOURCE
#include "cprocess.h"

#include <sched.h>

enum { most_cores = 4096 };

int cprocess_available_cores(int *cores, int capacity) {
  cpu_set_t set[most_cores / CPU_SETSIZE];
  CPU_ZERO_S(sizeof set, set);
  if (sched_getaffinity(0, sizeof set, set) != 0) return -1;
  int count = 0;
  for (int core = 0; core < most_cores && count < capacity; core++) {
    if (CPU_ISSET_S(core, sizeof set, set)) cores[count++] = core;
  }
  return count;
}

int cprocess_bind_thread(const int *cores, int count) {
  cpu_set_t set[most_cores / CPU_SETSIZE];
  CPU_ZERO_S(sizeof set, set);
  for (int i = 0; i < count; i++) {
    if (cores[i] >= 0 && cores[i] < most_cores) CPU_SET_S(cores[i], sizeof set, set);
  }
  return sched_setaffinity(0, sizeof set, set);
}
