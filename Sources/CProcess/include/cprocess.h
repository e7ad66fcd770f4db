#ifndef CPROCESS_H
#define CPROCESS_H

#include <sys/types.h>

/// Starts a process that does nothing until this one is gone, and then ends the process groups that were reported to it:
/// SIGTERM first, SIGKILL for those that are still there after `grace_seconds`.
///
/// Returns the descriptor to report to, or -1 with errno. The process ends by itself, at once if no group is left, when the
/// descriptor is closed or its owner has died, however it died.
int cprocess_start_guard(int grace_seconds, pid_t *guard);

/// Reports that a process group was started (1) or has ended (0). Returns 0, or -1 with errno.
int cprocess_report_group(int descriptor, pid_t group, int is_running);

#endif
