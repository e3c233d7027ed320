// AVX-512: 16 lanes; 8 outputs x 3 groups of lanes are 24 sums in 32 registers.
#include "../cpu.hpp"
#include "kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#ifdef NICRT_X86
#include "../simd.hpp"

#define NICRT_TILE_TARGET NICRT_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
#define NICRT_OP NICRT_TILE_TARGET NICRT_ALWAYS_INLINE static

namespace nicrt::native {
namespace {

// add_product of the fp32 set needs no bf16 unit: the compiler never makes vdpbf16ps of its own accord, and
// nothing else here is an AVX512_BF16 instruction.
struct Fp32 {
    using Single = Fp32;  ///< for units of one value
    using Vector = __m512;
    static constexpr std::size_t lanes = 16;
    NICRT_OP Vector broadcast(float value) { return _mm512_set1_ps(value); }
    NICRT_OP Vector load(const float* from) { return _mm512_loadu_ps(from); }
    NICRT_OP void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
    NICRT_OP Vector add_product(Vector sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
    NICRT_OP Vector leaky(Vector value, Vector slope) {
        const __mmask16 negative = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
        return _mm512_mask_mul_ps(value, negative, value, slope);
    }
    NICRT_OP Vector times_root(Vector value, Vector norm) {
        return _mm512_mul_ps(value, _mm512_sqrt_ps(norm));
    }
};

struct Pairs : Fp32 {
    NICRT_OP Vector add_product(Vector sum, Vector a, Vector b) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};

#include "rows.hpp"
#include "tile.hpp"

constexpr Kernels make() {
    Kernels kernels = row_kernels<Fp32>(max_tile_outputs, max_tile_groups);
    fill<Fp32, max_tile_groups>(kernels.fp32, std::make_index_sequence<max_tile_outputs>());
    fill<Pairs, max_tile_groups>(kernels.pairs, std::make_index_sequence<max_tile_outputs>());
    return kernels;
}

}  // namespace

const Kernels& kernels_avx512() {
    static constexpr Kernels kernels = make();
    return kernels;
}

}  // namespace nicrt::native
#else
namespace nicrt::native {
const Kernels& kernels_avx512() { return kernels_scalar(); }
}  // namespace nicrt::native
#endif
