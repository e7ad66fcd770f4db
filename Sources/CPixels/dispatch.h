// Loops are compiled twice: for processors with AVX2, and for all others of the architecture. The
// choice is made at run time.
#ifndef CPIXELS_DISPATCH_H
#define CPIXELS_DISPATCH_H

/// For the body that both versions share.
#define CPIXELS_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define CPIXELS_AVX2 __attribute__((target("avx2,fma")))
#define CPIXELS_HAS_AVX2() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define CPIXELS_AVX2
#define CPIXELS_HAS_AVX2() 0
#endif

#endif
