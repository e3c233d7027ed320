// The loops over one row, written once and vectorised by the compiler for each instruction set; see tile.hpp.

template <class From>
NICRT_TILE_TARGET void scale_row(const From* from, std::size_t count, float scale, float add, bool more,
                                 float* to) {
    if (more) {
        for (std::size_t i = 0; i < count; ++i) to[i] += scale * static_cast<float>(from[i]);
    } else {
        for (std::size_t i = 0; i < count; ++i) to[i] = scale * static_cast<float>(from[i]) + add;
    }
}

NICRT_TILE_TARGET void square_row(const float* value, std::size_t count, float* squares) {
    for (std::size_t i = 0; i < count; ++i) squares[i] = value[i] * value[i];
}

/// By intrinsics: a compiler that minds errno keeps square roots apart.
template <class Ops>
NICRT_TILE_TARGET void root_row(const float* norm, std::size_t groups, float* value) {
    for (std::size_t i = 0; i < groups * lane_group; i += Ops::lanes)
        Ops::store(value + i, Ops::times_root(Ops::load(value + i), Ops::load(norm + i)));
}

/// The nearest bfloat16, in the upper half; ties to even.
NICRT_TILE_TARGET NICRT_ALWAYS_INLINE std::uint32_t rounded(float value) {
    const auto bits = bit_cast<std::uint32_t>(value);
    return (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000U;
}

NICRT_TILE_TARGET void pair_row(const float* low, const float* high, std::size_t count, float* pairs) {
    for (std::size_t i = 0; i < count; ++i)
        pairs[i] = bit_cast<float>((rounded(low[i]) >> 16) | rounded(high[i]));
}

/// A value that is not a number becomes `low`.
NICRT_TILE_TARGET NICRT_ALWAYS_INLINE std::uint32_t clipped(float value, float low, float high) {
    value = value > low ? value : low;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(value < high ? value : high));
}

NICRT_TILE_TARGET void byte_row(const float* value, std::size_t planes, std::size_t stride, std::size_t width,
                                float low, float high, std::uint8_t* out) {
    std::size_t p = 0;
    for (; p + 4 <= planes; p += 4) {  // four planes make one 32-bit word of every place
        const float* const v = value + p * stride;
        for (std::size_t x = 0; x < width; x += lane_group) {
            std::uint32_t words[lane_group];
            for (std::size_t i = 0; i < lane_group; ++i)
                words[i] = clipped(v[x + i], low, high) | clipped(v[stride + x + i], low, high) << 8 |
                           clipped(v[2 * stride + x + i], low, high) << 16 |
                           clipped(v[3 * stride + x + i], low, high) << 24;
            const std::size_t count = std::min(lane_group, width - x);
            for (std::size_t i = 0; i < count; ++i) {
                std::uint8_t* const to = out + (x + i) * planes + p;
                if constexpr (std::endian::native == std::endian::little) {
                    std::memcpy(to, &words[i], 4);
                } else {
                    for (int k = 0; k < 4; ++k) to[k] = static_cast<std::uint8_t>(words[i] >> (8 * k));
                }
            }
        }
    }
    for (; p < planes; ++p)
        for (std::size_t x = 0; x < width; ++x)
            out[x * planes + p] = static_cast<std::uint8_t>(clipped(value[p * stride + x], low, high));
}

template <class Ops>
constexpr Kernels row_kernels(std::size_t outputs, std::size_t groups) {
    return {outputs,     groups,         {},        {},       &scale_row<float>, &scale_row<std::int32_t>,
            &square_row, &root_row<Ops>, &pair_row, &byte_row};
}
