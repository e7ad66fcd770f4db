// Declarations shared by the generated entries and the loader.

#pragma once

#include <stdbool.h>

#pragma GCC visibility push(hidden)

/// Loads libCTorch.so, and with it libtorch, at the first call. Returns false if that failed.
bool ct_load(void);
/// The reason for a failed load.
const char *ct_load_problem(void);

/// The functions of libCTorch.so, in the order of the entries; valid after `ct_load` returned true.
extern void *const *ct_library_functions;
/// The checksum of the C interface that the entries were generated from.
extern const char ct_expected_interface[];

#pragma GCC visibility pop
