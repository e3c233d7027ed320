// What the processor offers, asked once. The environment variable NICRT_ISA (scalar, avx2, avx512; avx512
// leaves out bfloat16) takes the rest away.
#pragma once

#include "compiler.hpp"

namespace nicrt {

struct Cpu {
    bool sse42 = false;
    bool avx2 = false;         ///< AVX2, BMI1, BMI2 and POPCNT
    bool avx512 = false;       ///< AVX-512 F, BW, VL, DQ, VBMI and VBMI2, besides the above
    bool fma = false;          ///< with AVX2
    bool avx512_bf16 = false;  ///< besides `avx512`
    bool avx512_vnni = false;  ///< besides `avx512`
    bool sha = false;          ///< SHA-256, with SSE4.1
};

[[nodiscard]] const Cpu& cpu();

}  // namespace nicrt
