// A .nic file held against the program that it names: what decoding it will run, or why it cannot be what it
// says.
#include <algorithm>
#include <string>

#include "nicrt/plan.hpp"
#include "parallel.hpp"

namespace nicrt::program {
namespace {

using std::to_string;

std::string hex_of(std::span<const std::uint8_t> bytes) {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

Status find_variant(const bundle::Manifest& manifest, const nicrt::Header& header, Opened& out) {
    const std::string symbol_id = hex_of(header.symbol_id);
    for (const auto& [name, variant] : manifest.variants) {
        if (variant.symbol_id != symbol_id) continue;
        out.variant = name;
        out.program = &variant.program;
        return {};
    }
    return {Code::wrong_bundle, "the file was made with codec bundle " + symbol_id + ", not with '" +
                                    std::string(manifest.name) +
                                    "'; leave the bundle out to have it found, or install that bundle"};
}

/// Grid of a stream's tiles of `tile` pixels, a multiple of its stride.
std::uint64_t tiles_of(const Round& round, std::uint32_t tile) {
    if (tile == 0) return 1;
    const auto along = [&](std::int32_t side) {
        return (static_cast<std::uint64_t>(side) + tile - 1) / tile;
    };
    return along(round.padded.height) * along(round.padded.width);
}

Status check_streams(const Round& round, const nicrt::Stage& stage, std::uint32_t tile) {
    std::size_t stream = 0;
    const auto& steps = round.stage->steps;
    const auto count =
        static_cast<std::size_t>(std::count_if(steps.begin(), steps.end(), [](const bundle::Step& step) {
            return std::holds_alternative<bundle::Entropy>(step);
        }));
    if (stage.streams.size() != count)
        return corrupt("stage " + to_string(round.number + 1) + " of the file has " +
                       to_string(stage.streams.size()) + " streams, its program " + to_string(count));
    for (const bundle::Step& step : steps) {
        const auto* const coded = std::get_if<bundle::Entropy>(&step);
        if (coded == nullptr) continue;
        if (tile % static_cast<std::uint32_t>(coded->stride) != 0)
            return corrupt("the file's tiles of " + to_string(tile) +
                           " pixels do not fit the bundle's stride " + to_string(coded->stride));
        const std::size_t tiles = stage.streams[stream++].tiles.size();
        if (tiles != tiles_of(round, tile))
            return corrupt("a stream of " + to_string(tiles) + " tiles, where the picture has " +
                           to_string(tiles_of(round, tile)));
    }
    return {};
}

Status hold(const bundle::Manifest& manifest, const nicrt::Header& header, const nicrt::Limits& limits,
            Opened& out) {
    NICRT_RETURN_IF_ERROR(find_variant(manifest, header, out));
    out.values = header.parameters;
    if (out.values.size() != out.program->parameters.size())
        return corrupt("the file sets " + to_string(out.values.size()) + " parameters, its program has " +
                       to_string(out.program->parameters.size()));
    if (const Status status = check_values(*out.program, out.values, limits); !status.ok())
        return status.code() == Code::invalid_argument
                   ? corrupt("the file's parameters do not fit its program: " + status.message())
                   : status;
    if (header.width > std::uint32_t{kMaxSide} || header.height > std::uint32_t{kMaxSide})
        return corrupt("the file's picture has a side of more than " + to_string(kMaxSide) + " pixels");
    const Extent picture{static_cast<std::int32_t>(header.height), static_cast<std::int32_t>(header.width)};
    out.rounds = rounds_of(*out.program, out.values, picture);
    const Extent last = out.rounds.back().size;
    if (!(last == picture))
        return corrupt("the file's header contradicts itself: the picture has " + to_string(picture.width) +
                       " x " + to_string(picture.height) + " pixels, its last layer " +
                       to_string(last.width) + " x " + to_string(last.height));
    if (out.rounds.size() != header.stages.size())
        return corrupt("the file has " + to_string(header.stages.size()) + " stages, its program " +
                       to_string(out.rounds.size()));
    for (const Round& round : out.rounds)
        NICRT_RETURN_IF_ERROR(check_streams(round, header.stages[round.number], header.tile_size));
    return {};
}

}  // namespace

Status open_file(const bundle::Manifest& manifest, const nicrt::Header& header, const nicrt::Limits& limits,
                 Opened& out) {
    return status_of([&]() -> Status {
        Opened opened;
        NICRT_RETURN_IF_ERROR(hold(manifest, header, limits, opened));
        out = std::move(opened);
        return {};
    });
}

}  // namespace nicrt::program
