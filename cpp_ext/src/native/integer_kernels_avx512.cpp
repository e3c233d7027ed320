// AVX-512 VNNI: four products of bytes or two of 16-bit integers at once, 16 lanes; 6 x 4 vectors are 24 sums
// in 32 registers.
#include "../cpu.hpp"
#include "integer_kernels.hpp"

#include <bit>
#include <cmath>
#include <utility>

#ifdef NICRT_X86
#include "../simd.hpp"

#define NICRT_TILE_TARGET NICRT_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#define NICRT_OP NICRT_TILE_TARGET NICRT_ALWAYS_INLINE static

namespace nicrt::native {
namespace {

struct Shorts {
    static constexpr bool bytes = false;
    static constexpr std::size_t lanes = 16, vectors = 4;
    using Vector = __m512i;
    NICRT_OP Vector zero() { return _mm512_setzero_si512(); }
    NICRT_OP Vector load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
    NICRT_OP Vector broadcast(const std::uint8_t* from) {
        return _mm512_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(from)));
    }
    NICRT_OP void store(std::int32_t* to, Vector value) { _mm512_storeu_si512(to, value); }
    NICRT_OP Vector add_products(Vector sum, Vector a, Vector b) { return _mm512_dpwssd_epi32(sum, a, b); }
};

struct Bytes : Shorts {
    static constexpr bool bytes = true;
    /// a: unsigned bytes (activations), b: signed ones (weights); no sum saturates.
    NICRT_OP Vector add_products(Vector sum, Vector a, Vector b) { return _mm512_dpbusd_epi32(sum, a, b); }
};

#include "integer_rows.hpp"

}  // namespace

const IntegerKernels& integer_kernels_avx512(bool bytes) {
    static constexpr auto scalars = std::make_index_sequence<max_tile_scalars>();
    static constexpr IntegerKernels kernels[] = {integer_kernels<Shorts>(scalars),
                                                 integer_kernels<Bytes>(scalars)};
    return kernels[bytes ? 1 : 0];
}

}  // namespace nicrt::native
#else
namespace nicrt::native {
const IntegerKernels& integer_kernels_avx512(bool) { return integer_kernels_scalar(); }
}  // namespace nicrt::native
#endif
