// Streams: what was encoded is decoded, and what was damaged afterwards gives one answer on every path:
// threads, instruction sets, both ways of finding a symbol.
#include "nicrt/segment.hpp"
#include "stream_case.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

/// Every path through one segment, which must do as the whole stream did.
void check_paths(const StreamCase& c, std::span<const std::uint8_t> file, bool decodes) {
    const Exact ids(c.coded_ids());
    const Tile& tile = c.encoded.directory.tiles[0];
    const Segment& segment = tile.segments[0];
    const auto bytes = file.subspan(static_cast<std::size_t>(segment.offset), segment.size);
    const std::size_t count = ids.bytes().size();
    std::vector<std::int16_t> first;
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512})
        for (const DecodePath path : {DecodePath::lookup, DecodePath::search}) {
            if (!isa_available(isa)) continue;
            const std::unique_ptr<std::int16_t[]> symbols(new std::int16_t[count]);
            const Status status = decode_segment(*c.codebook, ids.bytes().data(), count, tile.lanes, bytes,
                                                 symbols.get(), {isa, path});
            MUST(status.ok() == decodes || (status.code() == Code::invalid_argument && !decodes));
            if (!decodes) continue;
            if (first.empty()) first.assign(symbols.get(), symbols.get() + count);
            MUST(std::equal(first.begin(), first.end(), symbols.get()));
        }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    const StreamCase c(in);
    if (c.codebook == nullptr) return 0;
    const Exact file(c.encoded.bytes);
    std::vector<std::int32_t> one(c.shape.places(), 77), two(c.shape.places(), 78);
    const Status status = c.decode(file, 1, one.data()), threaded = c.decode(file, 2, two.data());
    MUST(status.code() == threaded.code() && status.message() == threaded.message());
    MUST(status.code() != Code::internal && (status.ok() || c.damaged));
    if (status.ok()) MUST(one == two);
    if (!c.damaged) MUST(one == c.symbols);
    const auto& tiles = c.encoded.directory.tiles;
    if (tiles.size() == 1 && tiles[0].segments.size() == 1 && !c.coded_ids().empty())
        check_paths(c, file.bytes(), status.ok());
    return 0;
}
