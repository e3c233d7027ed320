// Whole tensors to and from streams, and files from streams.
#include "nicrt/stream.hpp"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;

using Index = Array<const std::uint8_t>;
using Symbols = Array<std::int32_t, nb::numpy, nb::ndim<3>>;

TensorShape to_shape(std::span<const std::size_t> extents) {
    for (const std::size_t extent : extents)
        require(extent >= 1 && extent <= UINT32_MAX, "a tensor extent out of range");
    return {static_cast<std::uint32_t>(extents[0]), static_cast<std::uint32_t>(extents[1]),
            static_cast<std::uint32_t>(extents[2])};
}

TensorShape shape_of(const Symbols& symbols) {
    const std::array<std::size_t, 3> extents{symbols.shape(0), symbols.shape(1), symbols.shape(2)};
    return to_shape(extents);
}

TableChoice to_choice(const Index& index, TensorShape shape) {
    const bool by_channel = index.ndim() == 1;
    const bool fits = by_channel ? index.shape(0) == shape.channels
                                 : index.ndim() == 3 && index.shape(0) == shape.channels &&
                                       index.shape(1) == shape.height && index.shape(2) == shape.width;
    require(fits, "the index must have the shape of the symbols, or one table for each of their channels");
    return {index.data(), by_channel};
}

EncodedStream py_encode_stream(const PyCodebook& codebook, const Symbols& symbols, const Index& index,
                               std::uint32_t tile, std::uint32_t symbols_per_lane, unsigned threads) {
    const TensorShape shape = shape_of(symbols);
    const TableChoice choice = to_choice(index, shape);
    const StreamOptions options{tile, on_threads(threads)};
    EncodedStream encoded;
    without_gil([&] {
        return encode_stream(*codebook.tables, choice, symbols.data(), shape, options, symbols_per_lane,
                             encoded);
    });
    return encoded;
}

nb::tuple py_cost_of_stream(const PyCodebook& codebook, const Array<const std::int32_t, nb::ndim<3>>& symbols,
                            const Index& index) {
    const std::array<std::size_t, 3> extents{symbols.shape(0), symbols.shape(1), symbols.shape(2)};
    const TensorShape shape = to_shape(extents);
    const TableChoice choice = to_choice(index, shape);
    StreamCost cost;
    without_gil([&] { return cost_of_stream(*codebook.tables, choice, symbols.data(), shape, cost); });
    return nb::make_tuple(cost.bits, cost.coded);
}

Symbols py_decode_stream(const PyCodebook& codebook, const Index& index,
                         const std::array<std::size_t, 3>& extents, std::uint32_t tile, nb::handle data,
                         const PyStream& stream, unsigned threads, const std::optional<Symbols>& out) {
    const TensorShape shape = to_shape(extents);
    const TableChoice choice = to_choice(index, shape);
    const bool out_fits = !out || std::equal(extents.begin(), extents.end(), out->shape_ptr());
    require(out_fits, "out has another shape");
    const Symbols symbols = out ? *out : new_array<std::int32_t>({extents[0], extents[1], extents[2]});
    const StreamOptions options{tile, on_threads(threads)};
    const Buffer file(data);
    without_gil([&] {
        return decode_stream(*codebook.tables, choice, shape, options, file.bytes(), *stream.stream,
                             symbols.data());
    });
    return symbols;
}

template <std::size_t N>
std::array<std::uint8_t, N> to_id(const nb::bytes& id, const char* name) {
    require(id.size() == N, std::string(name) + " must have " + std::to_string(N) + " bytes");
    std::array<std::uint8_t, N> result;
    std::copy_n(static_cast<const std::uint8_t*>(id.data()), N, result.begin());
    return result;
}

nb::bytes py_write(const nb::bytes& symbol_id, const nb::bytes& picture_id, std::uint32_t width,
                   std::uint32_t height, std::uint32_t tile_size,
                   std::vector<std::vector<std::int32_t>> parameters,
                   const std::vector<std::vector<const EncodedStream*>>& stages) {
    Header header;
    header.symbol_id = to_id<8>(symbol_id, "symbol_id");
    header.picture_id = to_id<4>(picture_id, "picture_id");
    header.width = width;
    header.height = height;
    header.tile_size = tile_size;
    header.parameters = std::move(parameters);
    std::vector<std::span<const std::uint8_t>> payload;
    for (const auto& streams : stages) {
        auto& stage = header.stages.emplace_back();
        for (const EncodedStream* const stream : streams) {
            require(stream != nullptr, "None in place of an encoded stream");
            stage.streams.push_back(stream->directory);
            payload.emplace_back(stream->bytes);
        }
    }
    std::vector<std::uint8_t> file;
    without_gil([&] { return write(header, payload, file); });
    return to_bytes(file);
}

std::size_t segment_count(const EncodedStream& stream) {
    std::size_t count = 0;
    for (const auto& tile : stream.directory.tiles) count += tile.segments.size();
    return count;
}

}  // namespace

void register_stream(nb::module_& module) {
    nb::class_<EncodedStream>(module, "EncodedStream",
                              "A tensor of symbols, encoded; `write` puts it into a file.")
        .def_ro("coded", &EncodedStream::coded, "Symbols that were coded.")
        .def_prop_ro("segments", &segment_count)
        .def_prop_ro(
            "bytes", [](const EncodedStream& self) { return self.bytes.size(); },
            "Size of all its segments.");
    module.def("encode_stream", &py_encode_stream, "codebook"_a, "symbols"_a.noconvert(),
               "index"_a.noconvert(), "tile"_a, "symbols_per_lane"_a, "threads"_a,
               "Encodes int32[C, H, W] and sets the places that are not coded to 0 in place.\n"
               "index: uint8[C, H, W] or uint8[C]; tile: edge of a tile in places, 0 for one tile.");
    module.def("cost_of_stream", &py_cost_of_stream, "codebook"_a, "symbols"_a.noconvert(),
               "index"_a.noconvert(),
               "Bits that int32[C, H, W] symbols take, and how many of them are coded; index as in "
               "`encode_stream`.");
    module.def("decode_stream", &py_decode_stream, "codebook"_a, "index"_a.noconvert(), "shape"_a, "tile"_a,
               "data"_a, "stream"_a, "threads"_a, "out"_a.noconvert() = nb::none(),
               "The int32[C, H, W] symbols of a stream of the parsed file whose bytes are `data`; into `out` "
               "where given.");
    module.def("write", &py_write, "symbol_id"_a, "picture_id"_a, "width"_a, "height"_a, "tile_size"_a,
               "parameters"_a, "stages"_a,
               "The bytes of a whole .nic file from the encoded streams of each stage.");
}

}  // namespace nicrt::python
