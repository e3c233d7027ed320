// Look-ups in a byte map of 256 entries, 64 at a time. Include only where NICRT_X86 is defined.
#pragma once

#include "simd.hpp"

namespace nicrt {

struct ByteMap512 {
    __m512i part[4];

    /// `map`: 256 bytes, aligned to 64.
    NICRT_AVX512_INLINE explicit ByteMap512(const void* map) {
        for (int i = 0; i < 4; ++i) part[i] = _mm512_load_si512(static_cast<const __m512i*>(map) + i);
    }

    [[nodiscard]] NICRT_AVX512_INLINE __m512i operator[](__m512i index) const {
        return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index),
                                      _mm512_permutex2var_epi8(part[0], index, part[1]),
                                      _mm512_permutex2var_epi8(part[2], index, part[3]));
    }
};

}  // namespace nicrt
