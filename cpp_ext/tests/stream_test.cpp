// Streams: compaction, tile grid, round trips at any thread count, what the decoder refuses.
#include "nicrt/stream.hpp"

#include <random>
#include <stdexcept>
#include <string>

#include "check.hpp"
#include "compact.hpp"
#include "parallel.hpp"
#include "tile.hpp"

namespace {

using namespace nicrt;

std::mt19937 random_bits(1);

int random_int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }

/// Tables that fall off on both sides of 0 at different rates, some with raw bits.
std::shared_ptr<const Codebook> make_codebook(unsigned tables) {
    std::vector<std::vector<std::uint16_t>> frequencies(tables);
    std::vector<TableView> views;
    for (unsigned t = 0; t < tables; ++t) {
        const unsigned m = 1 + 2 * (t % 20);
        unsigned left = kProbabilityTotal - m - 1;
        frequencies[t].assign(m + 1, 1);
        for (unsigned i = 0; i < m; ++i) {
            const unsigned share = i + 1 == m ? left - left / 8 : left / 4;
            frequencies[t][(m / 2 + (i % 2 != 0 ? i / 2 + 1 : m - i / 2)) % m] +=
                static_cast<std::uint16_t>(share);
            left -= share;
        }
        frequencies[t][m] += static_cast<std::uint16_t>(left);
        const auto shift = static_cast<std::uint8_t>(t % 7 == 3 ? t % 4 : 0);
        views.push_back({static_cast<std::int16_t>(-static_cast<int>(m / 2)), shift, frequencies[t]});
    }
    std::shared_ptr<const Codebook> codebook;
    const Status status = Codebook::build(views, codebook);
    CHECK(status.ok());
    return codebook;
}

struct Tensor {
    TensorShape shape;
    std::vector<std::int32_t> symbols;
    std::vector<std::uint8_t> ids;
    bool by_channel = false;

    [[nodiscard]] TableChoice choice() const { return {ids.data(), by_channel}; }

    [[nodiscard]] bool coded(std::size_t place, unsigned tables) const {
        const std::size_t plane = std::size_t{shape.height} * shape.width;
        return ids[by_channel ? place / plane : place] < tables;
    }
};

Tensor make_tensor(TensorShape shape, bool by_channel, unsigned tables, int percent_coded) {
    Tensor tensor{shape, std::vector<std::int32_t>(shape.places()), {}, by_channel};
    tensor.ids.resize(by_channel ? shape.channels : shape.places());
    for (auto& id : tensor.ids) {
        const bool coded = random_int(0, 99) < percent_coded || tables == 256;
        id = static_cast<std::uint8_t>(coded ? random_int(0, static_cast<int>(tables) - 1)
                                             : random_int(static_cast<int>(tables), 255));
    }
    for (std::size_t i = 0; i < tensor.symbols.size(); ++i) {
        const bool rare = random_int(0, 499) == 0;
        tensor.symbols[i] = rare ? random_int(-32768, 32767) : random_int(-3, 3);
        if (!tensor.coded(i, tables)) tensor.symbols[i] = random_int(-100000, 100000);
    }
    return tensor;
}

void compaction_agrees() {
    const auto& fast = compact_kernels();
    const auto& portable = portable_compact_kernels();
    for (int round = 0; round < 3000; ++round) {
        const auto length = static_cast<std::size_t>(random_int(0, 150));
        const auto height = static_cast<std::size_t>(random_int(1, 4));
        const Rows rows{height, length, length + static_cast<std::size_t>(random_int(0, 40))};
        const std::size_t count = (height - 1) * rows.stride + length;
        const auto tables = static_cast<unsigned>(random_int(1, 256));
        // Vectors of exactly this size: the sanitizer sees what a kernel touches outside.
        std::vector<std::uint8_t> index(count);
        std::vector<std::int32_t> symbols(count);
        for (auto& value : index) value = static_cast<std::uint8_t>(random_int(0, 255));
        const int reach = round % 4 == 0 ? 32769 : 32767;
        for (auto& value : symbols) value = random_int(-reach, reach);

        struct Result {
            std::vector<std::int32_t> zeroed, back;
            std::vector<std::uint8_t> ids, ids_alone;
            std::vector<std::int16_t> coded;
            std::size_t n;
            bool fits = true;
            bool operator==(const Result&) const = default;
        };
        const auto run = [&](const CompactKernels& kernels) {
            Result result;
            result.zeroed = symbols;
            result.back.resize(count);
            result.ids.resize(count + kCompactSlack);
            result.ids_alone = result.ids;
            result.coded.resize(count + kCompactSlack);
            result.n = kernels.gather(index.data(), result.zeroed.data(), rows, tables, result.ids.data(),
                                      result.coded.data(), result.fits);
            CHECK(kernels.ids(index.data(), rows, tables, result.ids_alone.data()) == result.n);
            CHECK(kernels.scatter(index.data(), rows, tables, result.coded.data(), result.back.data()) ==
                  result.n);
            result.ids.resize(result.n);
            result.ids_alone.resize(result.n);
            result.coded.resize(result.n);
            return result;
        };
        const Result expected = run(portable);
        CHECK(run(fast) == expected);
        CHECK(expected.ids == expected.ids_alone);
        if (!expected.fits) continue;
        for (std::size_t i = 0; i < count; ++i) {
            const bool inside = i % rows.stride < rows.length;
            CHECK(expected.zeroed[i] == (inside && index[i] >= tables ? 0 : symbols[i]));
            CHECK(expected.back[i] == (inside ? expected.zeroed[i] : 0));
        }
    }
}

void tile_grid() {
    const TileGrid grid({1, 5, 7}, 3);
    CHECK(grid.count() == 6);
    const TileRect last = grid.rect(5);
    CHECK(last.top == 3 && last.bottom == 5 && last.left == 6 && last.right == 7);
    CHECK(TileGrid({1, 5, 7}, 0).count() == 1);
    CHECK(TileGrid({1, 5, 7}, UINT32_MAX).count() == 1);
    const TileRect whole = TileGrid({1, 5, 7}, UINT32_MAX).rect(0);
    CHECK(whole.top == 0 && whole.bottom == 5 && whole.left == 0 && whole.right == 7);
}

EncodedStream encode(const Codebook& codebook, Tensor& tensor, StreamOptions options,
                     std::uint32_t symbols_per_lane) {
    EncodedStream encoded;
    const Status status = encode_stream(codebook, tensor.choice(), tensor.symbols.data(), tensor.shape,
                                        options, symbols_per_lane, encoded);
    CHECK(status.ok());
    return encoded;
}

Status decode(const Codebook& codebook, const Tensor& tensor, StreamOptions options,
              const EncodedStream& encoded, std::vector<std::int32_t>& symbols) {
    symbols.assign(tensor.shape.places(), 77);
    return decode_stream(codebook, tensor.choice(), tensor.shape, options, encoded.bytes, encoded.directory,
                         symbols.data());
}

void round_trip(TensorShape shape, std::uint32_t tile, unsigned tables, int percent_coded,
                std::uint32_t symbols_per_lane) {
    const auto codebook = make_codebook(tables);
    for (const bool by_channel : {false, true}) {
        const Tensor original = make_tensor(shape, by_channel, tables, percent_coded);
        std::vector<std::int32_t> expected = original.symbols;
        std::uint64_t coded = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
            if (original.coded(i, tables)) ++coded;
            else expected[i] = 0;
        }
        EncodedStream first;
        for (const unsigned threads : {1u, 2u, 3u}) {
            Tensor tensor = original;
            const EncodedStream encoded =
                encode(*codebook, tensor, {tile, {&process_pool(), threads}}, symbols_per_lane);
            CHECK(tensor.symbols == expected);
            CHECK(encoded.coded == coded);
            if (threads == 1) first = encoded;
            CHECK(encoded.bytes == first.bytes);
            std::vector<std::int32_t> decoded;
            CHECK(decode(*codebook, original, {tile, {&process_pool(), threads}}, encoded, decoded).ok());
            CHECK(decoded == expected);
        }
    }
}

void round_trips() {
    round_trip({1, 1, 1}, 0, 1, 100, 8192);
    round_trip({3, 5, 7}, 0, 40, 0, 512);
    round_trip({3, 5, 7}, 3, 40, 50, 1);
    round_trip({16, 33, 65}, 16, 64, 20, 512);
    round_trip({4, 64, 64}, 64, 256, 100, 2048);
    round_trip({48, 90, 100}, 0, 64, 80, 512);    // one tile with many segments: more threads are worth it
    round_trip({48, 150, 150}, 32, 64, 30, 128);  // many tiles: the same
    round_trip({2, 9, 200}, 8, 5, 90, kMaxSymbolsPerLane);
}

void layouts() {
    const auto codebook = make_codebook(4);
    const auto layout = [&](std::uint32_t n, std::uint32_t symbols_per_lane) {
        Tensor tensor{{1, 1, n}, std::vector<std::int32_t>(n), {0}, true};
        const Tile tile = encode(*codebook, tensor, {}, symbols_per_lane).directory.tiles.at(0);
        return std::pair(tile.lanes, tile.segments.size());
    };
    using Layout = std::pair<unsigned, std::size_t>;
    CHECK(layout(1, kCompactSymbolsPerLane) == Layout(1, 1));
    const auto balanced = kBalancedSymbolsPerLane, parallel = kParallelSymbolsPerLane;
    CHECK(layout(7 * balanced / 2 - 1, balanced) == Layout(1, 1));
    CHECK(layout(7 * balanced / 2, balanced) == Layout(4, 1));  // 3.5 lanes round up
    CHECK(layout(8 * balanced, balanced) == Layout(8, 1));
    CHECK(layout(31 * balanced, balanced) == Layout(8, 1));
    CHECK(layout(32 * balanced, balanced) == Layout(32, 1));
    CHECK(layout(511, parallel) == Layout(1, 1));
    CHECK(layout(2 * parallel, parallel) ==
          Layout(4, 1));  // for GPUs rather twice the lanes than half of them
    CHECK(layout(4 * parallel, parallel) == Layout(8, 1));
    CHECK(layout(15 * parallel, parallel) == Layout(8, 1));
    CHECK(layout(16 * parallel, parallel) == Layout(32, 1));
    CHECK(layout(63 * 512, 512) == Layout(32, 1));
    CHECK(layout(64 * 512, 512) == Layout(32, 2));
    CHECK(layout(320, 1) == Layout(32, 10));
}

void encoder_refuses() {
    const auto codebook = make_codebook(4);
    Tensor tensor = make_tensor({2, 8, 8}, false, 4, 50);
    EncodedStream out;
    const auto code = [&](TensorShape shape, StreamOptions options, std::uint32_t symbols_per_lane = 512) {
        return encode_stream(*codebook, tensor.choice(), tensor.symbols.data(), shape, options,
                             symbols_per_lane, out)
            .code();
    };
    CHECK(code({0, 8, 8}, {}) == Code::invalid_argument);
    CHECK(code({UINT32_MAX, UINT32_MAX, UINT32_MAX}, {}) == Code::invalid_argument);
    CHECK(code({1, 1u << 12, 1u << 12}, {1, {}}) == Code::invalid_argument);  // 2^24 tiles
    CHECK(code(tensor.shape, {0, {nullptr, 0}}) == Code::invalid_argument);
    CHECK(code(tensor.shape, {0, {&process_pool(), kMaxThreads + 1}}) == Code::invalid_argument);
    CHECK(code(tensor.shape, {}, 0) == Code::invalid_argument);
    CHECK(code(tensor.shape, {}, kMaxSymbolsPerLane + 1) == Code::invalid_argument);
    for (const std::int32_t outside : {32768, -32769, INT32_MAX, INT32_MIN}) {
        for (const bool by_channel : {false, true}) {
            tensor.by_channel = by_channel;
            tensor.ids[0] = 0;
            tensor.symbols[0] = outside;
            CHECK(code(tensor.shape, {}) == Code::invalid_argument);
        }
    }
    CHECK(out.directory.tiles.empty());
}

void decoder_refuses() {
    const auto codebook = make_codebook(40);
    Tensor tensor = make_tensor({4, 24, 24}, false, 40, 30);
    for (std::uint32_t channel = 0; channel < 4; ++channel)  // nothing coded in the first of the nine tiles
        for (std::uint32_t row = 0; row < 8; ++row)
            for (std::uint32_t column = 0; column < 8; ++column)
                tensor.ids[(channel * 24 + row) * 24 + column] = 255;
    const StreamOptions options{8, {&process_pool(), 2}};
    const EncodedStream good = encode(*codebook, tensor, options, 512);
    std::vector<std::int32_t> symbols;
    CHECK(good.directory.tiles[0].segments.empty());
    CHECK(decode(*codebook, tensor, options, good, symbols).ok());

    const auto code = [&](const auto& change) {
        EncodedStream changed = good;
        change(changed);
        return decode(*codebook, tensor, options, changed, symbols).code();
    };
    using E = EncodedStream;
    CHECK(code([](E& e) { e.directory.tiles.pop_back(); }) == Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles.emplace_back(); }) == Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles[0] = e.directory.tiles[1]; }) == Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles[1].segments.clear(); }) == Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles[1].segments.resize(5000, e.directory.tiles[1].segments[0]); }) ==
          Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles[1].segments.push_back(e.directory.tiles[2].segments[0]); }) ==
          Code::corrupt);
    CHECK(code([](E& e) { e.directory.tiles[1].lanes = 8; }) == Code::corrupt);
    CHECK(code([](E& e) { e.bytes.pop_back(); }) == Code::truncated);
    CHECK(code([](E& e) { e.directory.tiles[1].segments[0].offset = UINT64_MAX; }) == Code::truncated);
    for (std::size_t i = 0; i < good.bytes.size(); ++i)
        CHECK(code([i](E& e) { e.bytes[i] ^= 1; }) == Code::corrupt);
    CHECK(decode(*codebook, tensor, {12, {}}, good, symbols).code() == Code::corrupt);
    CHECK(decode(*codebook, tensor, {8, {nullptr, 0}}, good, symbols).code() == Code::invalid_argument);
}

/// Two tiles fail in different ways: the first one decides, whatever the number of threads.
void first_error_wins() {
    const auto codebook = make_codebook(40);
    Tensor tensor = make_tensor({110, 100, 100}, false, 40, 5);
    EncodedStream encoded = encode(*codebook, tensor, {20, {}}, 512);
    encoded.directory.tiles[3].segments.clear();
    encoded.directory.tiles[4].segments[0].offset = UINT64_MAX;
    std::vector<std::int32_t> symbols;
    const Status expected = decode(*codebook, tensor, {20, {}}, encoded, symbols);
    CHECK(expected.code() == Code::corrupt);
    for (int round = 0; round < 20; ++round) {
        const Status status = decode(*codebook, tensor, {20, {&process_pool(), 4}}, encoded, symbols);
        CHECK(status.code() == expected.code() && status.message() == expected.message());
    }
}

void exceptions_become_statuses() {
    for (const unsigned threads : {1u, 3u}) {
        const Status memory = parallel_for(10, {&process_pool(), threads}, [](std::size_t i) -> Status {
            if (i >= 4) throw std::bad_alloc();
            return {};
        });
        CHECK(memory.code() == Code::limit && memory.message().starts_with("not enough memory"));
        const Status length = parallel_for(10, {&process_pool(), threads}, [](std::size_t i) -> Status {
            if (i >= 4) throw std::length_error("an absurd size");
            return {};
        });
        CHECK(length.code() == Code::limit && length.message() == memory.message());
        const Status other = parallel_for(10, {&process_pool(), threads}, [](std::size_t i) -> Status {
            if (i >= 4) throw std::runtime_error("at " + std::to_string(i));
            return {};
        });
        CHECK(other.code() == Code::internal && other.message() == "at 4");
    }
    CHECK(parallel_for(0, {&process_pool(), 4}, [](std::size_t) -> Status {
              return corrupt("never called");
          }).ok());
}

}  // namespace

int main() {
    compaction_agrees();
    tile_grid();
    round_trips();
    layouts();
    encoder_refuses();
    decoder_refuses();
    first_error_wins();
    exceptions_become_statuses();
}
