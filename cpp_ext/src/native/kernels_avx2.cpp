// AVX2 and FMA: 8 lanes; 6 outputs x 1 group of 16 lanes are 12 sums in 16 registers.
#include "../cpu.hpp"
#include "kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#ifdef NICRT_X86
#include "../simd.hpp"

#define NICRT_TILE_TARGET NICRT_TARGET("avx2,fma")
#define NICRT_OP NICRT_TILE_TARGET NICRT_ALWAYS_INLINE static

namespace nicrt::native {
namespace {

struct Fp32 {
    using Single = Fp32;  ///< for units of one value
    using Vector = __m256;
    static constexpr std::size_t lanes = 8;
    NICRT_OP Vector broadcast(float value) { return _mm256_set1_ps(value); }
    NICRT_OP Vector load(const float* from) { return _mm256_loadu_ps(from); }
    NICRT_OP void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
    NICRT_OP Vector add_product(Vector sum, Vector a, Vector b) { return _mm256_fmadd_ps(a, b, sum); }
    NICRT_OP Vector leaky(Vector value, Vector slope) {
        const __m256 negative = _mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_LT_OQ);
        return _mm256_blendv_ps(value, _mm256_mul_ps(value, slope), negative);
    }
    NICRT_OP Vector times_root(Vector value, Vector norm) {
        return _mm256_mul_ps(value, _mm256_sqrt_ps(norm));
    }
};

#include "rows.hpp"
#include "tile.hpp"

constexpr std::size_t outputs = 6;
constexpr std::size_t groups = 1;

constexpr Kernels make() {
    Kernels kernels = row_kernels<Fp32>(outputs, groups);
    fill<Fp32, groups>(kernels.fp32, std::make_index_sequence<outputs>());
    return kernels;
}

}  // namespace

const Kernels& kernels_avx2() {
    static constexpr Kernels kernels = make();
    return kernels;
}

}  // namespace nicrt::native
#else
namespace nicrt::native {
const Kernels& kernels_avx2() { return kernels_scalar(); }
}  // namespace nicrt::native
#endif
