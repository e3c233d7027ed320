// Entropy coding of one segment: n symbols, each with its table (FORMAT.md sections 5 and 6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nicrt/codebook.hpp"
#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

namespace nicrt {

/// Instruction sets. Each gives the same bytes and symbols; `best` is chosen at run time.
enum class Isa : int { best = 0, scalar = 1, avx2 = 2, avx512 = 3 };

/// Whether this build and this processor have it (`best` and `scalar`: always).
[[nodiscard]] bool isa_available(Isa isa);

/// invalid_argument where the environment variable NICRT_ISA, which caps them all, names none: for hosts to
/// ask before they begin.
Status check_isa_variable();

/// Most symbols of one segment.
inline constexpr std::size_t kMaxSegmentSymbols = std::size_t{1} << 31;

/// How a decoder finds an id: `lookup` (a 4096-entry table each, fastest hot), `search` (a small footprint,
/// fastest cold), `automatic` picks by the number of symbols.
enum class DecodePath : int { automatic = 0, lookup = 1, search = 2 };

struct DecodeOptions {
    Isa isa = Isa::best;
    DecodePath path = DecodePath::automatic;
    const Control* control = nullptr;  ///< looked at every kSymbolsPerLook symbols
};

/// Some 100 microseconds.
inline constexpr std::size_t kSymbolsPerLook = std::size_t{1} << 16;

/// Appends one segment to `out`.
/// table_ids, symbols: n each, table_ids[i] < codebook.size(); lanes: 1, 4, 8 or 32; n >= 1.
/// invalid_argument: lanes, n or a table id out of range. Of `work`, the control and the budget of its
/// memory.
Status encode_segment(const Codebook& codebook, const std::uint8_t* table_ids, const std::int16_t* symbols,
                      std::size_t n, unsigned lanes, std::vector<std::uint8_t>& out, Isa isa = Isa::best,
                      const Work& work = {});

/// Decodes exactly `segment` (its CRC included) into symbols[0 .. n).
/// corrupt: any mismatch of FORMAT.md section 5 or 6; the contents of `symbols` are then unspecified.
Status decode_segment(const Codebook& codebook, const std::uint8_t* table_ids, std::size_t n, unsigned lanes,
                      std::span<const std::uint8_t> segment, std::int16_t* symbols,
                      DecodeOptions options = {});

}  // namespace nicrt
