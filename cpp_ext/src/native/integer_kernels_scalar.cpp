// The portable set: 16-bit integers, for tests and for processors without the others.
#include "integer_kernels.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "../compiler.hpp"

#define NICRT_TILE_TARGET

namespace nicrt::native {
namespace {

struct Ops {
    static constexpr bool bytes = false;
    static constexpr std::size_t lanes = 8, vectors = 1;
    struct Vector {
        std::int32_t word[lanes];  // a sum, or two 16-bit integers
    };
    static Vector zero() { return {}; }
    static Vector load(const std::uint8_t* from) {
        Vector value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
    static Vector broadcast(const std::uint8_t* from) {
        Vector value;
        std::memcpy(&value.word[0], from, unit_bytes);
        for (std::size_t i = 1; i < lanes; ++i) value.word[i] = value.word[0];
        return value;
    }
    static void store(std::int32_t* to, const Vector& value) { std::memcpy(to, &value, sizeof value); }
    static Vector add_products(Vector sum, const Vector& a, const Vector& b) {
        for (std::size_t i = 0; i < lanes; ++i) {
            std::int16_t x[2], y[2];
            std::memcpy(x, &a.word[i], unit_bytes);
            std::memcpy(y, &b.word[i], unit_bytes);
            sum.word[i] += std::int32_t{x[0]} * y[0] + std::int32_t{x[1]} * y[1];
        }
        return sum;
    }
};

#include "integer_rows.hpp"

}  // namespace

const IntegerKernels& integer_kernels_scalar() {
    static constexpr IntegerKernels kernels = integer_kernels<Ops>(std::make_index_sequence<4>());
    return kernels;
}

}  // namespace nicrt::native
