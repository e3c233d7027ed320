// Function attributes of the vector code. Include only where NICRT_X86 is defined (cpu.hpp).
#pragma once

// GCC 12 takes the undefined pass-through operands of its own AVX-512 intrinsics for a mistake (its bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "compiler.hpp"

// What cpu().avx2 and cpu().avx512 promise. Whatever an inline function calls must not ask for more than it
// does.
#define NICRT_AVX2 NICRT_TARGET("avx2,bmi,bmi2,popcnt")
#define NICRT_AVX512 \
    NICRT_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx2,bmi,bmi2,popcnt")
#define NICRT_AVX2_INLINE NICRT_AVX2 NICRT_ALWAYS_INLINE
#define NICRT_AVX512_INLINE NICRT_AVX512 NICRT_ALWAYS_INLINE
