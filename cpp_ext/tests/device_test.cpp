// The device's decoder, compiled for the host: the same symbols and the same refusals as decode_stream, and
// nothing outside its arrays whatever the bytes are (the sanitizers look at that).
#include "nicrt/device.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "device_build.hpp"
#include "nicrt/crc32c.hpp"
#include "nicrt/stream.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::testing;
using device::QueuePtr;
using device::StreamDecoder;

struct Picture {
    TensorShape shape;
    std::vector<std::int32_t> symbols;
    std::vector<std::uint8_t> ids;
    bool by_channel = false;
    EncodedStream encoded;

    [[nodiscard]] TableChoice choice() const { return {ids.data(), by_channel}; }
};

Picture make_picture(const Codebook& codebook, TensorShape shape, bool by_channel, int percent_coded,
                     std::uint32_t tile, std::uint32_t symbols_per_lane, int percent_rare = 1) {
    Picture picture{shape, std::vector<std::int32_t>(shape.places()), {}, by_channel, {}};
    picture.ids.resize(by_channel ? shape.channels : shape.places());
    const int tables = static_cast<int>(codebook.size());
    for (auto& id : picture.ids) {
        const bool coded = random_int(0, 99) < percent_coded || tables == 256;
        id = static_cast<std::uint8_t>(coded ? random_int(0, tables - 1) : random_int(tables, 255));
    }
    for (auto& symbol : picture.symbols) {
        const bool rare = random_int(0, 99) < percent_rare;
        symbol = rare ? random_int(-32768, 32767) : random_int(-3, 3);
    }
    CHECK(encode_stream(codebook, picture.choice(), picture.symbols.data(), shape, {tile, {}},
                        symbols_per_lane, picture.encoded)
              .ok());
    return picture;
}

QueuePtr make_queue() {
    QueuePtr queue;
    CHECK(device::Queue::make(0, queue).ok());
    return queue;
}

/// A decoder with its tensors in arrays of exactly their size.
class Rig {
public:
    Rig(const QueuePtr& queue, const Codebook& codebook, const Picture& like, std::uint32_t pictures,
        std::uint32_t tile, std::size_t max_bytes, std::size_t max_segments, std::uint32_t padding)
        : shape_(like.shape), padding_(padding), symbols(pictures * shape_.places()) {
        device::DecoderShape shape;
        shape.pictures = pictures;
        shape.tensor = shape_;
        shape.tile = tile;
        shape.max_bytes = max_bytes;
        shape.max_segments = max_segments;
        if (like.by_channel) shape.channel_ids = like.ids.data();
        else index_.resize(pictures * std::size_t{shape_.channels} * rows() * columns(), 3);
        CHECK(StreamDecoder::make(queue, codebook, shape, decoder).ok());
    }

    void set_index(const std::vector<std::uint8_t>& ids, std::uint32_t picture) {
        if (index_.empty()) return;
        for (std::size_t line = 0; line < std::size_t{shape_.channels} * shape_.height; ++line) {
            const std::size_t channel = line / shape_.height, row = line % shape_.height;
            const std::size_t to =
                ((picture * std::size_t{shape_.channels} + channel) * rows() + row) * columns();
            std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(line * shape_.width), shape_.width,
                        index_.begin() + static_cast<std::ptrdiff_t>(to));
        }
    }

    Status run() {
        std::fill(symbols.begin(), symbols.end(), 77);
        return decoder->run({index_.empty() ? nullptr : index_.data(), rows(), columns()}, symbols.data());
    }

    Status decode(const std::vector<device::FileStream>& files) {
        NICRT_RETURN_IF_ERROR(decoder->set(files));
        NICRT_RETURN_IF_ERROR(run());
        return decoder->check();
    }

private:
    [[nodiscard]] std::uint32_t rows() const { return shape_.height + padding_; }
    [[nodiscard]] std::uint32_t columns() const { return shape_.width + 2 * padding_; }

    TensorShape shape_;
    std::uint32_t padding_;
    std::vector<std::uint8_t> index_;

public:
    std::vector<std::int32_t> symbols;
    std::unique_ptr<StreamDecoder> decoder;
};

std::size_t count_segments(const EncodedStream& encoded) {
    std::size_t count = 0;
    for (const auto& tile : encoded.directory.tiles) count += tile.segments.size();
    return count;
}

device::FileStream file_of(const Picture& picture) {
    return {picture.encoded.bytes, &picture.encoded.directory};
}

void batch(const Codebook& codebook, TensorShape shape, bool by_channel, int percent_coded,
           std::uint32_t tile, std::uint32_t symbols_per_lane, std::uint32_t count, int percent_rare = 1) {
    std::vector<Picture> pictures;
    std::size_t bytes = 0, segments = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        pictures.push_back(
            make_picture(codebook, shape, by_channel, percent_coded, tile, symbols_per_lane, percent_rare));
        if (by_channel && i > 0) {  // a decoder has one table for each channel
            pictures[i] = pictures[0];
            for (auto& symbol : pictures[i].symbols) symbol = random_int(-2, 2);
            CHECK(encode_stream(codebook, pictures[i].choice(), pictures[i].symbols.data(), shape, {tile, {}},
                                symbols_per_lane, pictures[i].encoded)
                      .ok());
        }
        bytes += pictures[i].encoded.bytes.size();
        segments += count_segments(pictures[i].encoded);
    }
    Rig rig(make_queue(), codebook, pictures[0], count, tile, bytes, segments,
            static_cast<std::uint32_t>(random_int(0, 3)));
    std::vector<device::FileStream> files;
    std::vector<std::int32_t> expected;
    for (std::uint32_t i = 0; i < count; ++i) {
        rig.set_index(pictures[i].ids, i);
        files.push_back(file_of(pictures[i]));
        expected.insert(expected.end(), pictures[i].symbols.begin(), pictures[i].symbols.end());
    }
    CHECK(rig.decode(files).ok());
    CHECK(rig.symbols == expected);
}

void equals_the_cpu() {
    const auto small = make_codebook(5);
    const auto usual = make_codebook(64);
    const auto without_raw = make_codebook(64, 60, false);
    const auto large = make_codebook(256, 255);  // its rows do not fit into shared memory
    for (const bool by_channel : {false, true}) {
        batch(*small, {1, 1, 1}, by_channel, 100, 0, 512, 1);
        batch(*small, {3, 5, 7}, by_channel, 0, 0, 512, 2);
        batch(*small, {3, 5, 7}, by_channel, 100, 3, 1, 1);
        batch(*usual, {3, 5, 7}, by_channel, 50, 3, 1, 3);
        batch(*usual, {16, 33, 65}, by_channel, 20, 16, 512, 2);
        batch(*usual, {16, 33, 65}, by_channel, 70, 16, 200, 1);
        batch(*without_raw, {16, 33, 65}, by_channel, 70, 32, 64, 2);
        batch(*large, {4, 64, 64}, by_channel, 100, 64, 128, 1);
        batch(*large, {20, 70, 60}, by_channel, 100, 0, 512, 1, 30);
    }
    for (int round = 0; round < 150; ++round) {
        const TensorShape shape{static_cast<std::uint32_t>(random_int(1, 9)),
                                static_cast<std::uint32_t>(random_int(1, 40)),
                                static_cast<std::uint32_t>(random_int(1, 40))};
        const Codebook& codebook = round % 3 == 0 ? *without_raw : round % 3 == 1 ? *usual : *large;
        batch(codebook, shape, random_int(0, 3) == 0, random_int(0, 100),
              static_cast<std::uint32_t>(random_int(0, 1) * random_int(1, 48)), 1u << random_int(0, 14),
              static_cast<std::uint32_t>(random_int(1, 3)), random_int(0, 2) * 10);
    }
}

/// A segment's CRC made right again after a change.
void seal(std::vector<std::uint8_t>& bytes, std::size_t begin, std::size_t size) {
    if (size < 4) return;
    const std::uint32_t crc = crc32c(std::span(bytes).subspan(begin, size - 4));
    std::memcpy(&bytes[begin + size - 4], &crc, sizeof crc);
}

/// One picture and its decoder; `agrees` holds a changed stream or index against decode_stream.
class Damage {
public:
    Damage(std::uint32_t symbols_per_lane, TensorShape shape, std::uint32_t tile)
        : codebook_(make_codebook(40)),
          tile_(tile),
          good(make_picture(*codebook_, shape, false, 60, tile, symbols_per_lane, 3)),
          rig_(make_queue(), *codebook_, good, 1, tile, 4 * good.encoded.bytes.size() + 1000,
               4 * count_segments(good.encoded) + 5000, 1) {
        rig_.set_index(good.ids, 0);
    }

    bool agrees(const EncodedStream& changed, const std::vector<std::uint8_t>& ids) {
        std::vector<std::int32_t> expected(good.symbols.size(), 77);
        const Status wanted = decode_stream(*codebook_, {ids.data(), false}, good.shape, {tile_, {}},
                                            changed.bytes, changed.directory, expected.data());
        const Status got = rig_.decode({{changed.bytes, &changed.directory}});
        if (got.ok()) ++accepted;
        else ++refused;
        if (got.ok()) return wanted.ok() && rig_.symbols == expected;
        // Where several things are wrong another one may come first, limits of the decoder's own among them.
        const bool about_the_file =
            got.code() == Code::corrupt || got.code() == Code::truncated || got.code() == Code::limit;
        return !wanted.ok() && about_the_file;
    }

    void set_index(const std::vector<std::uint8_t>& ids) { rig_.set_index(ids, 0); }

private:
    std::shared_ptr<const Codebook> codebook_;
    std::uint32_t tile_;

public:
    Picture good;
    int accepted = 0, refused = 0;

private:
    Rig rig_;
};

void every_bit_and_length(std::uint32_t symbols_per_lane, TensorShape shape, unsigned lanes) {
    Damage damage(symbols_per_lane, shape, 0);
    const EncodedStream& good = damage.good.encoded;
    CHECK(good.directory.tiles.at(0).lanes == lanes);
    CHECK(damage.agrees(good, damage.good.ids) && damage.accepted == 1);
    const std::size_t size = good.directory.tiles[0].segments[0].size;
    for (const bool sealed : {false, true}) {
        for (std::size_t bit = 0; bit < 8 * size; ++bit) {
            EncodedStream changed = good;
            changed.bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
            if (sealed) seal(changed.bytes, 0, size);
            CHECK(damage.agrees(changed, damage.good.ids));
        }
        for (std::size_t length = 0; length < size; ++length) {
            EncodedStream changed = good;
            changed.directory.tiles[0].segments[0].size = static_cast<std::uint32_t>(length);
            if (sealed) seal(changed.bytes, 0, length);
            CHECK(damage.agrees(changed, damage.good.ids));
        }
    }
    CHECK(damage.refused >
          10 * static_cast<int>(size));  // every unsealed change; sealed ones of raw bits may pass
}

void random_damage() {
    Damage damage(32, {6, 20, 20}, 8);
    for (int round = 0; round < 3000; ++round) {
        EncodedStream changed = damage.good.encoded;
        auto& tiles = changed.directory.tiles;
        auto& tile = tiles[static_cast<std::size_t>(random_int(0, static_cast<int>(tiles.size()) - 1))];
        const int kind = random_int(0, 7);
        if (kind == 0) tile.lanes = std::array{1u, 4u, 8u, 32u}[static_cast<std::size_t>(random_int(0, 3))];
        if (kind == 1) tile.segments.clear();
        if (kind == 2 && !tile.segments.empty())
            tile.segments.resize(static_cast<std::size_t>(random_int(1, 4000)), tile.segments[0]);
        if (kind == 3) tile.segments = tiles[0].segments;
        if (kind == 4)
            tiles.resize(static_cast<std::size_t>(random_int(0, static_cast<int>(tiles.size()) + 2)));
        for (auto& any : tiles)
            for (auto& segment : any.segments) {
                if (kind < 5 || segment.size < 5) break;
                const std::size_t at =
                    segment.offset +
                    static_cast<std::size_t>(
                        random_int(0, std::min(kind == 7 ? 3 : 1 << 30, static_cast<int>(segment.size) - 5)));
                changed.bytes[at] = static_cast<std::uint8_t>(random_int(0, 255));
                seal(changed.bytes, segment.offset, segment.size);
            }
        if (kind == 5 && !tile.segments.empty())
            tile.segments[0].offset += static_cast<std::uint64_t>(random_int(0, 1 << 12));
        CHECK(damage.agrees(changed, damage.good.ids));
    }
    CHECK(damage.refused > 1500);
}

/// A good file read with another index, as after a fault in an exact graph.
void other_indices() {
    Damage damage(32, {6, 20, 20}, 8);
    std::vector<std::uint8_t> ids = damage.good.ids;
    for (int round = 0; round < 300; ++round) {
        for (int i = random_int(0, 3); i > 0; --i)
            ids[static_cast<std::size_t>(random_int(0, static_cast<int>(ids.size()) - 1))] =
                static_cast<std::uint8_t>(random_int(0, 80));
        if (round % 100 == 99)
            std::fill(ids.begin(), ids.end(), static_cast<std::uint8_t>(round % 200 == 99 ? 255 : 3));
        damage.set_index(ids);
        CHECK(damage.agrees(damage.good.encoded, ids));
    }
}

void first_fault_is_named() {
    const auto codebook = make_codebook(8, 20, false);
    std::vector<Picture> pictures;
    for (int i = 0; i < 2; ++i)
        pictures.push_back(make_picture(*codebook, {4, 20, 20}, false, 100, 10, 5, 0));
    EncodedStream& encoded = pictures[1].encoded;
    for (const std::size_t number : {3u, 1u}) {
        const Segment& segment = encoded.directory.tiles[number].segments.at(1);
        encoded.bytes[segment.offset + 1 + 4 * 32] ^= 1;  // in the first word
        seal(encoded.bytes, segment.offset, segment.size);
    }
    Rig rig(make_queue(), *codebook, pictures[0], 2, 10, 100000, 1000, 0);
    for (std::uint32_t i = 0; i < 2; ++i) rig.set_index(pictures[i].ids, i);
    const Status status = rig.decode({file_of(pictures[0]), file_of(pictures[1])});
    CHECK(status.code() == Code::corrupt);
    CHECK(status.message().starts_with("picture 1 of the batch, tile 1, segment 1: "));
    encoded.bytes[5] ^= 1;
    const Status checksum = rig.decode({file_of(pictures[0]), file_of(pictures[1])});
    CHECK(checksum.code() == Code::corrupt &&
          checksum.message().starts_with("picture 1 of the batch: damaged"));
    CHECK(rig.decode({file_of(pictures[0]), file_of(pictures[0])}).code() == Code::corrupt);  // another index
    rig.set_index(pictures[0].ids, 1);
    CHECK(rig.decode({file_of(pictures[0]), file_of(pictures[0])}).ok());
}

void limits() {
    const auto codebook = make_codebook(8);
    const Picture picture = make_picture(*codebook, {4, 20, 20}, false, 100, 10, 10);
    const std::size_t bytes = picture.encoded.bytes.size(), segments = count_segments(picture.encoded);
    const auto queue = make_queue();
    const auto code = [&](std::size_t max_bytes, std::size_t max_segments, std::uint32_t tile = 10) {
        Rig rig(queue, *codebook, picture, 1, tile, max_bytes, max_segments, 0);
        rig.set_index(picture.ids, 0);
        return rig.decode({file_of(picture)}).code();
    };
    CHECK(code(bytes, segments) == Code::ok);
    CHECK(code(bytes - 1, segments) == Code::limit);
    CHECK(code(bytes, segments - 1) == Code::limit);
    CHECK(code(bytes, segments, 20) == Code::corrupt);

    Rig rig(queue, *codebook, picture, 1, 10, bytes, segments, 0);
    CHECK(rig.run().ok() && rig.decoder->check().code() == Code::corrupt);  // nothing was set
    CHECK(rig.decoder->set({}).code() == Code::invalid_argument);
    CHECK(rig.decoder->run({nullptr, 20, 20}, rig.symbols.data()).code() == Code::invalid_argument);
    CHECK(rig.decoder->run({picture.ids.data(), 19, 20}, rig.symbols.data()).code() ==
          Code::invalid_argument);

    std::unique_ptr<StreamDecoder> decoder;
    const auto made = [&](device::DecoderShape shape) {
        return StreamDecoder::make(queue, *codebook, shape, decoder).code();
    };
    CHECK(made({0, {1, 1, 1}, 0, 1, 1}) == Code::invalid_argument);
    CHECK(made({1, {1, 0, 1}, 0, 1, 1}) == Code::invalid_argument);
    CHECK(made({1, {UINT32_MAX, UINT32_MAX, UINT32_MAX}, 0, 1, 1}) == Code::limit);
    CHECK(made({1u << 16, {1, 1u << 14, 1u << 14}, 1, 1, 1}) == Code::limit);
    CHECK(made({1, {1, 1, 1}, 0, std::size_t{1} << 31, 1}) == Code::limit);
    CHECK(made({1, {1, 1, 1}, 0, SIZE_MAX, SIZE_MAX}) == Code::limit);
}

/// A decoder that lets only some symbols through, zeros of places that are not coded included.
void symbol_limits() {
    const auto codebook = make_codebook(40);
    const Picture picture = make_picture(*codebook, {4, 20, 20}, false, 50, 10, 10);
    const auto [least, greatest] = std::minmax_element(picture.symbols.begin(), picture.symbols.end());
    const auto code = [&](std::int32_t low, std::int32_t high) {
        device::DecoderShape shape{1, picture.shape, 10, picture.encoded.bytes.size(), 1000};
        shape.low = low;
        shape.high = high;
        std::unique_ptr<StreamDecoder> decoder;
        CHECK(StreamDecoder::make(make_queue(), *codebook, shape, decoder).ok());
        CHECK(decoder->set(std::vector{file_of(picture)}).ok());
        std::vector<std::int32_t> symbols(picture.symbols.size());
        CHECK(decoder->run({picture.ids.data(), 20, 20}, symbols.data()).ok());
        CHECK(symbols == picture.symbols);
        return decoder->check().code();
    };
    CHECK(code(*least, *greatest) == Code::ok);
    CHECK(code(*least + 1, *greatest) == Code::corrupt);
    CHECK(code(*least, *greatest - 1) == Code::corrupt);
    CHECK(code(1, 32767) == Code::corrupt);
}

void graphs() {
    const auto codebook = make_codebook(16);
    const auto queue = make_queue();
    std::vector<Picture> pictures;
    for (int i = 0; i < 4; ++i)
        pictures.push_back(make_picture(*codebook, {4, 20, 20}, false, 25 * i, 10, 10));
    Rig rig(queue, *codebook, pictures[0], 1, 10, 1 << 14, 1 << 10, 2);
    std::unique_ptr<device::Graph> graph;
    CHECK(device::Queue::end_capture(queue, graph).code() == Code::invalid_argument);
    CHECK(queue->begin_capture().ok());
    CHECK(queue->begin_capture().code() == Code::invalid_argument);
    CHECK(rig.decoder->set(std::vector{file_of(pictures[0])}).code() == Code::invalid_argument);
    CHECK(rig.run().ok());
    CHECK(device::Queue::end_capture(queue, graph).ok());
    CHECK(std::all_of(rig.symbols.begin(), rig.symbols.end(), [](int symbol) { return symbol == 77; }));
    for (const Picture& picture : pictures) {
        rig.set_index(picture.ids, 0);
        CHECK(rig.decoder->set(std::vector{file_of(picture)}).ok());
        CHECK(graph->replay().ok() && rig.decoder->check().ok());
        CHECK(rig.symbols == picture.symbols);
    }
}

}  // namespace

int main() {
    equals_the_cpu();
    every_bit_and_length(1u << 14, {2, 6, 7}, 1);
    every_bit_and_length(30, {2, 8, 8}, 4);
    every_bit_and_length(15, {2, 8, 8}, 8);
    every_bit_and_length(4, {4, 8, 8}, 32);
    random_damage();
    other_indices();
    first_fault_is_named();
    limits();
    symbol_limits();
    graphs();
}
