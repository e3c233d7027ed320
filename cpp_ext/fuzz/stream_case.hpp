// A stream of symbols that was encoded and then, perhaps, damaged behind its checksums; for the decoders of
// CPU and device.
#pragma once

#include "nicrt/crc32c.hpp"
#include "nicrt/stream.hpp"
#include "tables.hpp"

namespace nicrt::fuzz {

/// Makes the checksum of a segment right again.
inline void seal(std::span<std::uint8_t> segment) {
    const std::uint32_t crc = crc32c(segment.first(segment.size() - 4));
    for (std::size_t i = 0; i < 4; ++i)
        segment[segment.size() - 4 + i] = static_cast<std::uint8_t>(crc >> 8 * i);
}

class StreamCase {
public:
    /// Reads everything; `codebook` stays null where the tables break a rule.
    explicit StreamCase(Input& in) {
        codebook = Tables(in).build();
        if (codebook == nullptr) return;
        const std::uint8_t flags = in.byte();
        shape = {1 + in.below(8), 1 + in.below(14), 1 + in.below(14)};
        by_channel = (flags & 1) != 0;
        tile = (flags & 2) != 0 ? 1 + in.below(32) : 0;
        choose_tables(in);
        encode(in);
        damage(in);
    }

    [[nodiscard]] TableChoice choice() const { return {ids.data(), by_channel}; }

    /// On the CPU, from a copy of the encoded bytes.
    Status decode(const Exact& file, unsigned threads, std::int32_t* out) const {
        return decode_stream(*codebook, choice(), shape, {tile, {&process_pool(), threads}}, file.bytes(),
                             encoded.directory, out);
    }

    /// The table of each place that is coded, in the order of coding, where there is one tile.
    [[nodiscard]] std::vector<std::uint8_t> coded_ids() const {
        std::vector<std::uint8_t> coded;
        const std::size_t plane = std::size_t{shape.height} * shape.width;
        for (std::size_t i = 0; i < shape.places(); ++i) {
            const std::uint8_t id = ids[by_channel ? i / plane : i];
            if (id < codebook->size()) coded.push_back(id);
        }
        return coded;
    }

    std::shared_ptr<const Codebook> codebook;
    TensorShape shape;
    bool by_channel = false;
    std::uint32_t tile = 0;
    std::vector<std::uint8_t> ids;
    std::vector<std::int32_t> symbols;
    bool damaged = false;
    EncodedStream encoded;

private:
    void choose_tables(Input& in) {
        const auto pattern = in.bytes(in.byte());
        ids.resize(by_channel ? shape.channels : shape.places());
        for (std::size_t i = 0; i < ids.size() && !pattern.empty(); ++i) {
            const std::uint8_t chosen = pattern[i % pattern.size()];  // some at places that are not coded
            ids[i] = chosen >= 224 ? chosen : static_cast<std::uint8_t>(chosen % codebook->size());
        }
    }

    void encode(Input& in) {
        constexpr std::uint32_t per_lane[] = {16384, 2048, 512, 64, 8, 2};
        const std::uint32_t symbols_per_lane = per_lane[in.below(6)];
        const auto pattern = in.bytes(in.byte());
        symbols.resize(shape.places());
        for (std::size_t i = 0; i < symbols.size() && !pattern.empty(); ++i) {
            const int value = pattern[i % pattern.size()];
            symbols[i] = value >= 240 ? (value - 248) * 4000 : value % 9 - 4;
        }
        MUST(encode_stream(*codebook, choice(), symbols.data(), shape, {tile, {}}, symbols_per_lane, encoded)
                 .ok());
    }

    void damage(Input& in) {
        for (unsigned left = in.below(4); left > 0; --left) {
            auto& tiles = encoded.directory.tiles;
            Tile& chosen = tiles[in.below(static_cast<std::uint32_t>(tiles.size()))];
            damaged = true;
            switch (in.below(4)) {
                case 0: chosen.lanes = chosen.segments.empty() ? 1 : 1u << in.below(6); break;
                case 1:
                    if (!chosen.segments.empty()) chosen.segments.pop_back();
                    break;
                default:
                    if (!chosen.segments.empty()) change(in, chosen);
            }
        }
    }

    void change(Input& in, const Tile& chosen) {
        const auto which = in.below(static_cast<std::uint32_t>(chosen.segments.size()));
        const Segment& segment = chosen.segments[which];
        const auto bytes =
            std::span(encoded.bytes).subspan(static_cast<std::size_t>(segment.offset), segment.size);
        bytes[in.below(segment.size - 4)] ^= in.byte();
        seal(bytes);
    }
};

}  // namespace nicrt::fuzz
