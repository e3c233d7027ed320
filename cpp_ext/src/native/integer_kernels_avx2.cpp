// AVX2: pairs of 16-bit integers, 8 lanes. (Its product of bytes saturates.)
#include "../cpu.hpp"
#include "integer_kernels.hpp"

#include <bit>
#include <cmath>
#include <utility>

#ifdef NICRT_X86
#include "../simd.hpp"

#define NICRT_TILE_TARGET NICRT_TARGET("avx2")
#define NICRT_OP NICRT_TILE_TARGET NICRT_ALWAYS_INLINE static

namespace nicrt::native {
namespace {

struct Ops {
    static constexpr bool bytes = false;
    static constexpr std::size_t lanes = 8, vectors = 2;
    using Vector = __m256i;
    NICRT_OP Vector zero() { return _mm256_setzero_si256(); }
    NICRT_OP Vector load(const std::uint8_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    NICRT_OP Vector broadcast(const std::uint8_t* from) {
        return _mm256_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(from)));
    }
    NICRT_OP void store(std::int32_t* to, Vector value) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
    }
    NICRT_OP Vector add_products(Vector sum, Vector a, Vector b) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    }
};

#include "integer_rows.hpp"

}  // namespace

const IntegerKernels& integer_kernels_avx2() {
    static constexpr IntegerKernels kernels = integer_kernels<Ops>(std::make_index_sequence<5>());
    return kernels;
}

}  // namespace nicrt::native
#else
namespace nicrt::native {
const IntegerKernels& integer_kernels_avx2() { return integer_kernels_scalar(); }
}  // namespace nicrt::native
#endif
