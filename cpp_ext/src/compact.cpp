#include "compact.hpp"

#include "cpu.hpp"

#ifdef NICRT_X86
#include "simd.hpp"
#endif

namespace nicrt {
namespace {

// Every place writes to the next free slot and only a coded one keeps it: no branch on data that looks
// random.

template <class Step>
void for_each_place(Rows rows, Step step) {
    for (std::size_t row = 0; row < rows.count; ++row)
        for (std::size_t i = row * rows.stride; i < row * rows.stride + rows.length; ++i) step(i);
}

std::size_t ids_portable(const std::uint8_t* index, Rows rows, unsigned tables, std::uint8_t* ids) {
    std::size_t n = 0;
    for_each_place(rows, [&](std::size_t i) {
        ids[n] = index[i];
        n += index[i] < tables;
    });
    return n;
}

std::size_t gather_portable(const std::uint8_t* index, std::int32_t* symbols, Rows rows, unsigned tables,
                            std::uint8_t* ids, std::int16_t* coded, bool& fits) {
    std::size_t n = 0;
    bool outside = false;
    for_each_place(rows, [&](std::size_t i) {
        const bool is_coded = index[i] < tables;
        const std::int32_t symbol = is_coded ? symbols[i] : 0;
        symbols[i] = symbol;
        ids[n] = index[i];
        coded[n] = static_cast<std::int16_t>(symbol);
        outside |= coded[n] != symbol;
        n += is_coded;
    });
    if (outside) fits = false;
    return n;
}

std::size_t scatter_portable(const std::uint8_t* index, Rows rows, unsigned tables, const std::int16_t* coded,
                             std::int32_t* symbols) {
    std::size_t n = 0;
    for_each_place(rows, [&](std::size_t i) {
        const bool is_coded = index[i] < tables;
        symbols[i] = is_coded ? coded[n] : 0;
        n += is_coded;
    });
    return n;
}

constexpr CompactKernels kPortable{ids_portable, gather_portable, scatter_portable};

#ifdef NICRT_X86
#define NICRT_COMPACT NICRT_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2,popcnt")
#define NICRT_STEP NICRT_COMPACT NICRT_INLINED

// The compressing and expanding instructions are used between registers: their forms with a memory operand
// are microcoded on some processors. Whole registers are stored instead, into the slack. Places go by 32,
// since that is how wide a row of a tile often is.

constexpr __mmask32 kAll = ~__mmask32{0};

NICRT_COMPACT inline std::size_t popcount(__mmask32 mask) {
    return static_cast<std::size_t>(_mm_popcnt_u32(mask));
}

NICRT_COMPACT inline __m256i every_byte(unsigned value) { return _mm256_set1_epi8(static_cast<char>(value)); }

NICRT_COMPACT inline __m256i load_index(const std::uint8_t* index, __mmask32 valid) {
    return valid == kAll ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index))
                         : _mm256_maskz_loadu_epi8(valid, index);
}

NICRT_COMPACT inline void store_symbols(std::int32_t* symbols, __m512i value, __mmask16 valid) {
    if (valid == 0xFFFF) _mm512_storeu_si512(symbols, value);
    else _mm512_mask_storeu_epi32(symbols, valid, value);
}

/// step(i, valid) for blocks of 32 places, the last one of each row cut.
template <class Step>
NICRT_COMPACT inline void for_each_block(Rows rows, Step step) {
    const __mmask32 rest = (__mmask32{1} << rows.length % 32) - 1;
    for (std::size_t row = 0; row < rows.count; ++row) {
        std::size_t i = row * rows.stride;
#pragma GCC unroll 2
        for (const std::size_t end = i + rows.length - rows.length % 32; i < end; i += 32) step(i, kAll);
        if (rest != 0) step(i, rest);
    }
}

NICRT_COMPACT inline void put_ids(std::uint8_t* ids, __mmask32 coded, __m256i index) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(ids), _mm256_maskz_compress_epi8(coded, index));
}

NICRT_COMPACT std::size_t ids_avx512(const std::uint8_t* index, Rows rows, unsigned tables,
                                     std::uint8_t* ids) {
    const __m256i last_table = every_byte(tables - 1);
    std::size_t n = 0;
    for_each_block(rows, [&](std::size_t i, __mmask32 valid) NICRT_STEP {
        const __m256i block = load_index(index + i, valid);
        const __mmask32 coded = _mm256_mask_cmple_epu8_mask(valid, block, last_table);
        put_ids(ids + n, coded, block);
        n += popcount(coded);
    });
    return n;
}

/// 16 symbols as 16 bit, with the places that are not coded set to 0 in memory.
NICRT_COMPACT inline __m256i take_symbols(std::int32_t* symbols, __mmask16 valid, __mmask16 coded,
                                          __mmask16& outside) {
    const __m512i wide = _mm512_maskz_loadu_epi32(coded, symbols);
    store_symbols(symbols, wide, valid);
    const __m256i narrow = _mm512_cvtepi32_epi16(wide);
    outside = static_cast<__mmask16>(outside | _mm512_cmpneq_epi32_mask(_mm512_cvtepi16_epi32(narrow), wide));
    return narrow;
}

NICRT_COMPACT std::size_t gather_avx512(const std::uint8_t* index, std::int32_t* symbols, Rows rows,
                                        unsigned tables, std::uint8_t* ids, std::int16_t* coded_symbols,
                                        bool& fits) {
    const __m256i last_table = every_byte(tables - 1);
    __mmask16 outside = 0;
    std::size_t n = 0;
    for_each_block(rows, [&](std::size_t i, __mmask32 valid) NICRT_STEP {
        const __m256i block = load_index(index + i, valid);
        const __mmask32 coded = _mm256_mask_cmple_epu8_mask(valid, block, last_table);
        put_ids(ids + n, coded, block);
        std::int32_t* const at = symbols + i;
        const __m256i low =
            take_symbols(at, static_cast<__mmask16>(valid), static_cast<__mmask16>(coded), outside);
        const __m256i high = take_symbols(at + 16, static_cast<__mmask16>(valid >> 16),
                                          static_cast<__mmask16>(coded >> 16), outside);
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        _mm512_storeu_si512(coded_symbols + n, _mm512_maskz_compress_epi16(coded, both));
        n += popcount(coded);
    });
    if (outside != 0) fits = false;
    return n;
}

NICRT_COMPACT std::size_t scatter_avx512(const std::uint8_t* index, Rows rows, unsigned tables,
                                         const std::int16_t* coded_symbols, std::int32_t* symbols) {
    const __m256i last_table = every_byte(tables - 1);
    std::size_t n = 0;
    for_each_block(rows, [&](std::size_t i, __mmask32 valid) NICRT_STEP {
        const __mmask32 coded = _mm256_mask_cmple_epu8_mask(valid, load_index(index + i, valid), last_table);
        const __m512i both = _mm512_maskz_expand_epi16(coded, _mm512_loadu_si512(coded_symbols + n));
        const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(both));
        const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(both, 1));
        store_symbols(symbols + i, low, static_cast<__mmask16>(valid));
        store_symbols(symbols + i + 16, high, static_cast<__mmask16>(valid >> 16));
        n += popcount(coded);
    });
    return n;
}

constexpr CompactKernels kAvx512{ids_avx512, gather_avx512, scatter_avx512};
#endif

}  // namespace

const CompactKernels& portable_compact_kernels() { return kPortable; }

const CompactKernels& compact_kernels() {
#ifdef NICRT_X86
    if (cpu().avx512) return kAvx512;
#endif
    return kPortable;
}

}  // namespace nicrt
