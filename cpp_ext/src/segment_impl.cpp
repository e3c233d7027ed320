#include "segment_impl.hpp"

#include <string>

#include "cpu.hpp"

namespace nicrt {

Status check_arguments(std::size_t n, unsigned lanes, Isa isa) {
    if (lanes != 1 && lanes != 4 && lanes != 8 && lanes != 32)
        return invalid_argument("lanes must be 1, 4, 8 or 32, not " + std::to_string(lanes));
    if (n == 0 || n > kMaxSegmentSymbols) return invalid_argument("a segment has 1 .. 2^31 symbols");
    if (!isa_available(isa)) return invalid_argument("instruction set is not available here");
    return {};
}

Isa resolve_isa(Isa isa) {
    if (isa != Isa::best) return isa;
    if (cpu().avx512) return Isa::avx512;
    if (cpu().avx2) return Isa::avx2;
    return Isa::scalar;
}

const std::uint8_t* read_varint(const std::uint8_t* p, const std::uint8_t* end, std::uint32_t& value) {
    std::uint64_t sum = 0;
    for (unsigned shift = 0; shift < 35 && p != end; shift += 7) {
        const std::uint8_t byte = *p++;
        sum |= std::uint64_t{byte & 0x7fu} << shift;
        if (byte & 0x80) continue;
        if ((byte == 0 && shift > 0) || sum > 0xFFFFFFFFu) return nullptr;
        value = static_cast<std::uint32_t>(sum);
        return p;
    }
    return nullptr;
}

void append_varint(std::uint32_t value, std::vector<std::uint8_t>& out) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
    out.push_back(static_cast<std::uint8_t>(value));
}

}  // namespace nicrt
