// The tile kernel, written once. A file per instruction set defines NICRT_TILE_TARGET (function attributes)
// and an `Ops` with the vector type, its width and its operations, then includes this inside a namespace of
// its own: templates of different files must not share a name, or the linker would keep the code of one
// instruction set for all.

template <class Ops, std::size_t Outputs, std::size_t Groups>
NICRT_TILE_TARGET void tile(const Tile& job) {
    constexpr std::size_t vectors = Groups * lane_group / Ops::lanes;
    typename Ops::Vector sum[Outputs][vectors];
#pragma GCC unroll 8
    for (std::size_t m = 0; m < Outputs; ++m)
#pragma GCC unroll 8
        for (std::size_t n = 0; n < vectors; ++n) sum[m][n] = Ops::broadcast(job.bias[m]);

    for (std::size_t t = 0; t < job.tap_count; ++t) {
        const float* in = job.taps[t].in + job.lane;
        for (const int run : {0, 1}) {
            const float* weights = job.taps[t].weights[run];
            const float* const end = in + job.units[run] * job.in_stride;
            for (; in != end; in += job.in_stride, weights += Outputs) {
                typename Ops::Vector value[vectors];
#pragma GCC unroll 8
                for (std::size_t n = 0; n < vectors; ++n) value[n] = Ops::load(in + n * Ops::lanes);
#pragma GCC unroll 8
                for (std::size_t m = 0; m < Outputs; ++m) {
                    const typename Ops::Vector weight = Ops::broadcast(weights[m]);
#pragma GCC unroll 8
                    for (std::size_t n = 0; n < vectors; ++n)
                        sum[m][n] = Ops::add_product(sum[m][n], value[n], weight);
                }
            }
        }
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
