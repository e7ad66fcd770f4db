#ifndef CPROCESS_H
#define CPROCESS_H

#include <sys/types.h>

/// Starts a process that waits until this one has ended, and then ends the process groups that were
/// reported to it: with SIGTERM first, and SIGKILL for those that still exist after
/// `grace_seconds`.
///
/// Returns the descriptor to report to, or -1 with errno. The process ends when the descriptor is
/// closed or its owner has died in any way; at once if no group is left.
int cprocess_start_guard(int grace_seconds, pid_t *guard);

/// Reports that a process group was started (1) or has ended (0). Returns 0, or -1 with errno.
int cprocess_report_group(int descriptor, pid_t group, int is_running);

/// Writes the numbers of the cores that this thread may use, at most `capacity`. Returns their
/// number, or -1 with errno.
int cprocess_available_cores(int *cores, int capacity);

/// Restricts the calling thread, and the processes and threads that it starts, to some cores.
/// Returns 0, or -1 with errno.
int cprocess_bind_thread(const int *cores, int count);

#endif
