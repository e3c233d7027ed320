// What happens to sums, written once, and the table of tile kernels. Included as tile.hpp is: by a file per
// instruction set, inside a namespace of its own, behind NICRT_TILE_TARGET and `Ops`.
//
// These files are compiled without contraction: a product is rounded before anything is added to it.

/// The nearest integer, ties to even, of a value within -2^21 .. 2^21: adding 1.5 * 2^23 leaves no bits
/// behind the point.
NICRT_TILE_TARGET NICRT_ALWAYS_INLINE std::int32_t nearest(float value) {
    return static_cast<std::int32_t>(bit_cast<std::uint32_t>(value + 0x1.8p23F) - 0x4B400000U);
}

NICRT_TILE_TARGET NICRT_ALWAYS_INLINE float within(float value, float low, float high) {
    value = value > low ? value : low;
    return value < high ? value : high;
}

template <class Activation>
NICRT_TILE_TARGET void hidden_row(const std::int32_t* sums, const std::int32_t* bias, const float* multiplier,
                                  const float* negative, std::size_t count, IntegerRange range,
                                  Activation* out) {
    const auto low = static_cast<float>(range.low), high = static_cast<float>(range.high);
    for (std::size_t i = 0; i < count; ++i) {
        const auto sum = static_cast<float>(sums[i] + bias[i]);
        const float a = sum * multiplier[i], b = sum * negative[i];
        out[i] = static_cast<Activation>(nearest(within(a > b ? a : b, low, high)));
    }
}

NICRT_TILE_TARGET void float_row(const std::int32_t* sums, std::int32_t bias, float multiplier,
                                 std::size_t count, float* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(sums[i] + bias) * multiplier;
}

NICRT_TILE_TARGET NICRT_ALWAYS_INLINE std::uint8_t index_of(float value, const IndexRule& r, float skipped) {
    const float index = within(std::floor((value + r.add) * r.unit), r.low, r.high);
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(index < r.skip ? skipped : index));
}

NICRT_TILE_TARGET void index_row(const std::int32_t* sums, std::int32_t bias, float multiplier,
                                 std::size_t count, const IndexRule& rule, std::uint8_t* out) {
    constexpr float most = 0x1p21F;  // far beyond what the rule clips to, whatever it adds (see `check`)
    const IndexRule r = rule;
    const auto skipped = static_cast<float>(r.skipped);
    for (std::size_t i = 0; i < count; ++i) {
        const float scaled = within(static_cast<float>(sums[i] + bias) * multiplier, -most, most);
        out[i] = index_of(static_cast<float>(nearest(scaled)), r, skipped);
    }
}

NICRT_TILE_TARGET void table_row(const std::int32_t* sums, std::int32_t bias, float multiplier,
                                 std::size_t count, const IndexRule& rule, std::uint8_t* out) {
    const IndexRule r = rule;
    const auto skipped = static_cast<float>(r.skipped);
    const float* const values = r.table.values.data();
    for (std::size_t i = 0; i < count; ++i) {
        const float scaled =
            within(static_cast<float>(sums[i] + bias) * multiplier, r.table.low, r.table.high);
        const auto scale = static_cast<float>(nearest(scaled));
        const float coarse = std::floor(scale * r.table.unit) + r.table.add;
        const float value = values[static_cast<std::int32_t>(scale < r.table.limit ? scale : coarse)];
        out[i] = index_of(value, r, skipped);
    }
}

template <class Ops, bool PlacesInVectors, std::size_t Scalars, std::size_t Vectors>
NICRT_TILE_TARGET void integer_tile(const IntegerTile& job) {
    typename Ops::Vector sum[Scalars][Vectors];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Scalars; ++p)
#pragma GCC unroll 8
        for (std::size_t v = 0; v < Vectors; ++v) sum[p][v] = Ops::zero();

    const std::uint8_t* vectors = job.vectors;
    const std::size_t run_bytes = job.units * unit_bytes;
    for (std::size_t t = 0; t < job.taps; ++t) {
        const std::uint8_t* scalars[Scalars];
#pragma GCC unroll 8
        for (std::size_t p = 0; p < Scalars; ++p) scalars[p] = job.scalars[p] + job.offsets[t];
        for (std::size_t at = 0; at < run_bytes; at += unit_bytes) {
            typename Ops::Vector value[Vectors];
#pragma GCC unroll 8
            for (std::size_t v = 0; v < Vectors; ++v) value[v] = Ops::load(vectors + v * sizeof(value[0]));
            vectors += Vectors * sizeof(value[0]);
#pragma GCC unroll 8
            for (std::size_t p = 0; p < Scalars; ++p) {
                const typename Ops::Vector scalar = Ops::broadcast(scalars[p] + at);
#pragma GCC unroll 8
                for (std::size_t v = 0; v < Vectors; ++v)
                    sum[p][v] = PlacesInVectors ? Ops::add_products(sum[p][v], value[v], scalar)
                                                : Ops::add_products(sum[p][v], scalar, value[v]);
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Scalars; ++p)
#pragma GCC unroll 8
        for (std::size_t v = 0; v < Vectors; ++v)
            Ops::store(job.sums + p * max_tile_lanes + v * Ops::lanes, sum[p][v]);
}

template <class Ops, bool PlacesInVectors, std::size_t Scalars, std::size_t... Vectors>
constexpr void fill_row(IntegerTileKernel (&row)[max_tile_vectors], std::index_sequence<Vectors...>) {
    ((row[Vectors] = &integer_tile<Ops, PlacesInVectors, Scalars, Vectors + 1>), ...);
}

template <class Ops, std::size_t... Scalars>
constexpr IntegerKernels integer_kernels(std::index_sequence<Scalars...>) {
    IntegerKernels kernels{Ops::bytes,
                           Ops::lanes,
                           Ops::vectors,
                           sizeof...(Scalars),
                           {},
                           {},
                           &hidden_row<std::uint8_t>,
                           &hidden_row<std::int16_t>,
                           &float_row,
                           &index_row,
                           &table_row};
    constexpr auto all = std::make_index_sequence<Ops::vectors>();
    (fill_row<Ops, false, Scalars + 1>(kernels.weights_in_vectors[Scalars], all), ...);
    (fill_row<Ops, true, Scalars + 1>(kernels.places_in_vectors[Scalars], all), ...);
    return kernels;
}
