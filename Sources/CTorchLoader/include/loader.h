// Declarations that the generated entries and the loader share.

#pragma once

#include <stdbool.h>

#pragma GCC visibility push(hidden)

/// Loads libCTorch.so and with it libtorch, unless that was done before. False if it can't be loaded.
bool ct_load(void);
/// Why it can't be loaded.
const char *ct_load_problem(void);

/// libCTorch.so's functions, in the order of the entries; valid once `ct_load` was true.
extern void *const *ct_library_functions;
/// The checksum of the C interface that the entries were generated from.
extern const char ct_expected_interface[];

#pragma GCC visibility pop
