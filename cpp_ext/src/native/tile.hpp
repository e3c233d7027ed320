// The tile kernel, written once. A file per instruction set defines NICRT_TILE_TARGET (function attributes)
// and an `Ops` with the vector type, its width and its operations, then includes this inside a namespace of
// its own: templates of different files must not share a name, or the linker would keep the code of one
// instruction set for all.

/// Adds the products of so many units from `in` on to the sums.
template <class Ops, class Product, std::size_t Outputs, std::size_t Vectors>
NICRT_TILE_TARGET NICRT_ALWAYS_INLINE void add_units(const float* in, std::size_t units,
                                                     std::size_t in_stride, const float* weights,
                                                     typename Ops::Vector (&sum)[Outputs][Vectors]) {
    const float* const end = in + units * in_stride;
    for (; in != end; in += in_stride, weights += Outputs) {
        typename Ops::Vector value[Vectors];
#pragma GCC unroll 8
        for (std::size_t n = 0; n < Vectors; ++n) value[n] = Ops::load(in + n * Ops::lanes);
#pragma GCC unroll 8
        for (std::size_t m = 0; m < Outputs; ++m) {
            const typename Ops::Vector weight = Ops::broadcast(weights[m]);
#pragma GCC unroll 8
            for (std::size_t n = 0; n < Vectors; ++n)
                sum[m][n] = Product::add_product(sum[m][n], value[n], weight);
        }
    }
}

template <class Ops, std::size_t Outputs, std::size_t Groups>
NICRT_TILE_TARGET void tile(const Tile& job) {
    constexpr std::size_t vectors = Groups * lane_group / Ops::lanes;
    typename Ops::Vector sum[Outputs][vectors];
#pragma GCC unroll 8
    for (std::size_t m = 0; m < Outputs; ++m)
#pragma GCC unroll 8
        for (std::size_t n = 0; n < vectors; ++n) sum[m][n] = Ops::broadcast(job.bias[m]);

    for (std::size_t t = 0; t < job.tap_count; ++t) {
        const Tap& tap = job.taps[t];
        const float* const in = tap.in + job.lane;
        add_units<Ops, Ops>(in, job.units[0], job.in_stride, tap.weights[0], sum);
        add_units<Ops, typename Ops::Single>(in + job.units[0] * job.in_stride, job.units[1], job.in_stride,
                                             tap.weights[1], sum);
    }

    const typename Ops::Vector slope = Ops::broadcast(job.slope);
#pragma GCC unroll 8
    for (std::size_t m = 0; m < Outputs; ++m)
#pragma GCC unroll 8
        for (std::size_t n = 0; n < vectors; ++n)
            Ops::store(job.out + job.lane + m * job.out_stride + n * Ops::lanes,
                       Ops::leaky(sum[m][n], slope));
}

template <class Ops, std::size_t Outputs, std::size_t... Less>
constexpr void fill_row(TileKernel (&row)[max_tile_groups], std::index_sequence<Less...>) {
    ((row[Less] = &tile<Ops, Outputs, Less + 1>), ...);
}

/// The kernels for 1 to `Groups` groups and 1 to `sizeof...(Less)` outputs.
template <class Ops, std::size_t Groups, std::size_t... Less>
constexpr void fill(TileKernel (&table)[max_tile_outputs][max_tile_groups], std::index_sequence<Less...>) {
    (fill_row<Ops, Less + 1>(table[Less], std::make_index_sequence<Groups>()), ...);
}
