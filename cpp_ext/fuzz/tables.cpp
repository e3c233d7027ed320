// Any tables that build must code any symbols and give them back, and every instruction set must write the
// same bytes.
#include "tables.hpp"

#include "nicrt/segment.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

constexpr unsigned kLanes[] = {1, 4, 8, 32};

void check_round_trip(const Codebook& codebook, const std::vector<std::uint8_t>& ids,
                      const std::vector<std::int16_t>& symbols, unsigned lanes) {
    std::vector<std::uint8_t> first;
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
        if (!isa_available(isa)) continue;
        std::vector<std::uint8_t> segment;
        MUST(encode_segment(codebook, ids.data(), symbols.data(), ids.size(), lanes, segment, isa).ok());
        if (first.empty()) first = segment;
        MUST(segment == first);
        for (const DecodePath path : {DecodePath::lookup, DecodePath::search}) {
            std::vector<std::int16_t> back(symbols.size(), 1);
            const Status status =
                decode_segment(codebook, ids.data(), ids.size(), lanes, segment, back.data(), {isa, path});
            MUST(status.ok() && back == symbols);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    const auto codebook = Tables(in).build();
    if (codebook == nullptr) return 0;
    const unsigned count = 1 + in.below(5000), lanes = kLanes[in.below(4)];
    const auto id_pattern = in.bytes(64), symbol_pattern = in.bytes(128);
    std::vector<std::uint8_t> ids(count);
    std::vector<std::int16_t> symbols(count);
    for (unsigned i = 0; i < count; ++i) {
        if (!id_pattern.empty())
            ids[i] = static_cast<std::uint8_t>(id_pattern[i % id_pattern.size()] % codebook->size());
        if (!symbol_pattern.empty()) {  // small ones, and now and then one that needs an escape
            const int scaled = symbol_pattern[i % symbol_pattern.size()] << i % 9;
            symbols[i] = static_cast<std::int16_t>(i % 2 != 0 ? ~scaled : scaled);
        }
    }
    check_round_trip(*codebook, ids, symbols, lanes);
    return 0;
}
