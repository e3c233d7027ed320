// Portable: what the others are tested against.
#include "kernels.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "../compiler.hpp"

#define NICRT_TILE_TARGET

namespace nicrt::native {
namespace {

struct Fp32 {
    using Single = Fp32;  ///< for units of one value
    using Vector = float;
    static constexpr std::size_t lanes = 1;
    static Vector broadcast(float value) { return value; }
    static Vector load(const float* from) { return *from; }
    static void store(float* to, Vector value) { *to = value; }
    static Vector add_product(Vector sum, Vector a, Vector b) { return sum + a * b; }
    static Vector leaky(Vector value, Vector slope) { return value < 0 ? value * slope : value; }
    static Vector times_root(Vector value, Vector norm) { return value * std::sqrt(norm); }
};

#include "rows.hpp"
#include "tile.hpp"

constexpr std::size_t outputs = 2;
constexpr std::size_t groups = 1;

constexpr Kernels make() {
    Kernels kernels = row_kernels<Fp32>(outputs, groups);
    fill<Fp32, groups>(kernels.fp32, std::make_index_sequence<outputs>());
    return kernels;
}

}  // namespace

const Kernels& kernels_scalar() {
    static constexpr Kernels kernels = make();
    return kernels;
}

}  // namespace nicrt::native
