#include "rans_decode_lanes.hpp"

namespace nicrt {
namespace {

template <class Path>
DecodeRounds loop_for(unsigned lanes) {
    switch (lanes) {
        case 1: return decode_lanes<Path, 1>;
        case 4: return decode_lanes<Path, 4>;
        case 8: return decode_lanes<Path, 8>;
        default: return decode_lanes<Path, 32>;
    }
}

template <class Path>
bool decode_checked(const Path& path, const std::uint8_t* table_ids, std::size_t count,
                    std::int16_t* quotients, LaneStates& lanes) {
    for (std::size_t lane = 0; lane < count; ++lane) {
        std::uint32_t& state = lanes.state[lane];
        const std::uint32_t slot = state & kSlotMask;
        const std::uint32_t entry = path.entry(table_ids[lane], slot);
        quotients[lane] = static_cast<std::int8_t>(entry);
        state = (entry >> 20) * (state >> kProbabilityBits) + path.offset(entry, slot);
        if (state >= kStateFloor) continue;
        if (lanes.end - lanes.next < 2) return false;
        state = state << 16 | load_le<std::uint16_t>(lanes.next);
        lanes.next += 2;
    }
    return true;
}

}  // namespace

DecodeRounds decode_rounds_scalar(DecodePath path, unsigned lanes) {
    return path == DecodePath::lookup ? loop_for<LookupPath>(lanes) : loop_for<SearchPath>(lanes);
}

bool decode_partial_round(const DecodeTables& tables, DecodePath path, const std::uint8_t* table_ids,
                          std::size_t count, std::int16_t* quotients, LaneStates& lanes) {
    return path == DecodePath::lookup
               ? decode_checked(LookupPath(tables), table_ids, count, quotients, lanes)
               : decode_checked(SearchPath(tables), table_ids, count, quotients, lanes);
}

}  // namespace nicrt
