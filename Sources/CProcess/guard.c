// A guard for the processes of a launcher that may be killed. Foundation and posix_spawn can't fork
// without running another program; after fork(), only functions that POSIX calls async-signal-safe
// are used here.

#define _GNU_SOURCE
#include "cprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { most_groups = 1024 };  // as many as a launcher starts on one machine

static void pause_for(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static int signal_all(const pid_t *groups, int count, int number) {
  int living = 0;
  for (int i = 0; i < count; i++) {
    if (groups[i] > 0 && kill(-groups[i], number) == 0) living++;
  }
  return living;
}

static void guard(int descriptor, int grace_seconds) {
  static pid_t groups[most_groups];
  int count = 0;
  pid_t message;
  for (;;) {
    ssize_t size = read(descriptor, &message, sizeof message);
    if (size < 0 && errno == EINTR) continue;
    if (size != sizeof message) break;  // the launcher has ended
    if (message > 0) {
      if (count < most_groups) groups[count++] = message;
    } else {
      for (int i = 0; i < count; i++) {
        if (groups[i] == -message) groups[i] = groups[--count];
      }
    }
  }
  if (signal_all(groups, count, SIGTERM) == 0) _exit(0);
  for (long waited = 0; waited < grace_seconds * 1000L; waited += 100) {
    pause_for(100);
    if (signal_all(groups, count, 0) == 0) _exit(0);
  }
  signal_all(groups, count, SIGKILL);
  _exit(0);
}

int cprocess_start_guard(int grace_seconds, pid_t *child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
  // The parent's other threads don't run in the child, so signals to it have their default actions.
  pid_t id = fork();
  if (id < 0) {
    int code = errno;
    close(ends[0]);
    close(ends[1]);
    errno = code;
    return -1;
  }
  if (id == 0) {
    setsid();  // the guard must not receive Ctrl-C and signals to the launcher's group
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "ltx-guard");
    // Readers that wait for the end of the launcher's output must not wait for the guard.
    dup2(ends[0], 0);
    int last = limit.rlim_cur > 65536 ? 65536 : (int)limit.rlim_cur;
    for (int i = 1; i < last; i++) close(i);
    guard(0, grace_seconds);
  }
  close(ends[0]);
  *child = id;
  return ends[1];
}

int cprocess_report_group(int descriptor, pid_t group, int is_running) {
  pid_t message = is_running ? group : -group;
  ssize_t size;
  do size = write(descriptor, &message, sizeof message);
  while (size < 0 && errno == EINTR);
  return size == sizeof message ? 0 : -1;
}
