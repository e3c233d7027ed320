// The container: round trip, every prefix, every bit flip, hostile headers.
#include "nicrt/container.hpp"

#include <chrono>
#include <functional>
#include <string>

#include "byte_stream.hpp"
#include "check.hpp"
#include "nicrt/crc32c.hpp"

namespace {

using namespace nicrt;
using Bytes = std::vector<std::uint8_t>;

constexpr std::array<std::uint8_t, 8> kSignature{0x89, 0x4E, 0x49, 0x43, 0x0D, 0x0A, 0x1A, 0x0A};

/// A segment as far as the container sees one: `size` bytes that end with their CRC.
Bytes segment_of(std::uint32_t size, std::uint8_t seed) {
    Bytes segment;
    for (std::uint32_t i = 0; i + 4 < size; ++i) segment.push_back(static_cast<std::uint8_t>(seed + 7 * i));
    put_u32(segment, crc32c(segment));
    return segment;
}

struct Sample {
    Header header;
    std::vector<Bytes> segments;
    Bytes file;
};

Sample make_sample() {
    Sample sample;
    sample.header.symbol_id = {1, 2, 3, 4, 5, 6, 7, 8};
    sample.header.picture_id = {9, 10, 11, 12};
    sample.header.width = 768;
    sample.header.height = 512;
    sample.header.tile_size = 512;
    sample.header.parameters = {{0, -1, 1, INT32_MAX, INT32_MIN}, {}, {42}};
    const auto tile = [&](unsigned lanes, std::initializer_list<std::uint32_t> sizes) {
        Tile result{lanes, {}};
        for (const std::uint32_t size : sizes) {
            sample.segments.push_back(segment_of(size, static_cast<std::uint8_t>(sample.segments.size())));
            result.segments.push_back({0, size});
        }
        return result;
    };
    sample.header.stages = {
        Stage{{Stream{{tile(1, {9}), tile(32, {140, 200})}}, Stream{{tile(1, {}), tile(8, {61})}}}},
        Stage{},
        Stage{{Stream{{tile(4, {30})}}}},
    };
    const std::vector<std::span<const std::uint8_t>> payload(sample.segments.begin(), sample.segments.end());
    CHECK(write(sample.header, payload, sample.file).ok());
    return sample;
}

/// What a careful reader does with a whole file.
Status open(std::span<const std::uint8_t> data, File& file) {
    NICRT_RETURN_IF_ERROR(parse_header(data, {}, file));
    NICRT_RETURN_IF_ERROR(check_complete(file, data.size()));
    return check_segments(file, data);
}

void round_trip() {
    const Sample sample = make_sample();
    File file;
    CHECK(open(sample.file, file).ok());
    CHECK(file.header.symbol_id == sample.header.symbol_id);
    CHECK(file.header.picture_id == sample.header.picture_id);
    CHECK(file.header.width == 768 && file.header.height == 512 && file.header.tile_size == 512);
    CHECK(file.header.parameters == sample.header.parameters);
    CHECK(file.header.stages.size() == 3);
    CHECK(file.header.stages[0].streams[0].tiles[1].lanes == 32);
    CHECK(file.header.stages[0].streams[1].tiles[0].segments.empty());

    std::size_t i = 0;
    std::uint64_t offset = file.header_bytes;
    for (const auto& stage : file.header.stages)
        for (const auto& stream : stage.streams)
            for (const auto& tile : stream.tiles)
                for (const auto& segment : tile.segments) {
                    CHECK(segment.offset == offset && segment.size == sample.segments[i].size());
                    offset += segment.size;
                    ++i;
                }
    CHECK(offset == file.total_bytes && i == sample.segments.size());

    CHECK(file.complete_stages(file.total_bytes) == 3);
    CHECK(file.complete_stages(file.total_bytes - 1) == 2);
    CHECK(file.complete_stages(file.total_bytes - 30) == 2);
    CHECK(file.complete_stages(file.total_bytes - 31) == 0);
    CHECK(file.complete_stages(0) == 0);
    CHECK(check_segments(file, std::span(sample.file).first(file.total_bytes - 30), 2).ok());
}

void every_prefix_is_truncated() {
    const Sample sample = make_sample();
    for (std::size_t size = 0; size < sample.file.size(); ++size) {
        const Bytes prefix(sample.file.begin(), sample.file.begin() + static_cast<std::ptrdiff_t>(size));
        File file;
        const Status status = open(prefix, file);
        CHECK(status.code() == Code::truncated);
        if (file.total_bytes != 0) CHECK(check_segments(file, prefix).code() == Code::truncated);
    }
    File file;
    CHECK(parse_header({}, {}, file).message() == "the file is empty");
}

void every_bit_flip_is_an_error() {
    const Sample sample = make_sample();
    for (std::size_t bit = 0; bit < sample.file.size() * 8; ++bit) {
        Bytes damaged = sample.file;
        damaged[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        File file;
        const Status status = open(damaged, file);
        CHECK(!status.ok());
        CHECK(!status.message().empty());
        if (bit < 32) CHECK(status.code() == Code::unsupported);
        if (bit >= 32 && bit < 64) CHECK(status.code() == Code::corrupt);
    }
    Bytes longer = sample.file;
    longer.push_back(0);
    File file;
    CHECK(open(longer, file).code() == Code::corrupt);
}

/// A file with these bytes as its header, and nothing after the right CRC.
Bytes with_header(const Bytes& header) {
    Bytes file(kSignature.begin(), kSignature.end());
    put_varint(file, 1);
    put_varint(file, static_cast<std::uint32_t>(header.size()));
    put_bytes(file, header);
    put_u32(file, crc32c(file));
    return file;
}

/// A valid beginning of a header, up to and with tile_size.
Bytes header_start(std::uint32_t width = 64, std::uint32_t height = 64) {
    Bytes header(13, 0);
    put_varint(header, width);
    put_varint(header, height);
    put_varint(header, 0);
    return header;
}

Bytes header_with(std::initializer_list<std::uint32_t> varints, Bytes header = header_start()) {
    for (const std::uint32_t value : varints) put_varint(header, value);
    return header;
}

Code parse_code(const Bytes& file, const Limits& limits = {}) {
    File parsed;
    return parse_header(file, limits, parsed).code();
}

Code header_code(const Bytes& header, const Limits& limits = {}) {
    return parse_code(with_header(header), limits);
}

void fields_out_of_range() {
    CHECK(header_code(header_with({0, 1, 0})) == Code::ok);
    CHECK(header_code({}) == Code::corrupt);
    CHECK(header_code(header_with({0, 0})) == Code::corrupt);              // no stage
    CHECK(header_code(header_with({0, 1, 0, 0})) == Code::corrupt);        // not consumed
    CHECK(header_code(header_with({0, 1, 1, 1, 4, 8})) == Code::corrupt);  // a segment of 8 bytes
    CHECK(header_code(header_with({0, 1, 1, 1, 4, 9})) == Code::ok);
    CHECK(header_code(header_with({0, 1, 1, 1, 1})) == Code::corrupt);  // lanes without segments
    CHECK(header_code(header_with({65, 0})) == Code::corrupt);
    CHECK(header_code(header_start(0, 64)) == Code::corrupt);
    CHECK(header_code(header_with({0, 1, 0}, header_start((1u << 24) + 1, 1))) == Code::corrupt);
    CHECK(header_code(header_with({0, 1, 0}, header_start(1u << 24, 1u << 24))) == Code::limit);
    CHECK(header_code(header_with({0, 3, 0, 0, 0}), Limits{1 << 20, 1 << 26, 2}) == Code::limit);

    Bytes flags = header_with({0, 1, 0});
    flags[0] = 1;
    CHECK(header_code(flags) == Code::unsupported);
    Bytes longer_form = header_start();
    longer_form.insert(longer_form.end(), {0x80, 0x00, 0x00});
    CHECK(header_code(longer_form) == Code::corrupt);
    Bytes above_32_bits = header_start();
    above_32_bits.insert(above_32_bits.end(), {0xFF, 0xFF, 0xFF, 0xFF, 0x1F});
    CHECK(header_code(above_32_bits) == Code::corrupt);

    Bytes version_2(kSignature.begin(), kSignature.end());
    put_varint(version_2, 2);
    CHECK(parse_code(version_2) == Code::unsupported);
    Bytes huge_header(kSignature.begin(), kSignature.end());
    put_varint(huge_header, 1);
    put_varint(huge_header, UINT32_MAX);
    CHECK(parse_code(huge_header) == Code::limit);
    CHECK(parse_code(huge_header, Limits{UINT32_MAX, 1 << 26, 64}) == Code::truncated);
}

/// Counts at their maximum in a few bytes, and a directory as large as a header can hold.
void hostile_headers_fail_fast() {
    const auto start = std::chrono::steady_clock::now();
    for (int round = 0; round < 1000; ++round) {
        CHECK(header_code(header_with({1, 4096})) == Code::corrupt);
        CHECK(header_code(header_with({0, 64})) == Code::corrupt);
        CHECK(header_code(header_with({0, 1, 64})) == Code::corrupt);
        CHECK(header_code(header_with({0, 1, 1, 1u << 20})) == Code::corrupt);
        CHECK(header_code(header_with({0, 1, 1, UINT32_MAX})) == Code::corrupt);
        CHECK(header_code(header_with({0, 1, 1, 1, UINT32_MAX})) == Code::corrupt);
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    CHECK(spent.count() < 5);

    // Sizes of 4 GB each: they add up without overflow, and the file is short by all of them.
    constexpr std::uint32_t kSegments = 100'000;
    Bytes header = header_with({0, 1, 1, 1, 4 * kSegments});
    for (std::uint32_t i = 0; i < kSegments; ++i) put_varint(header, UINT32_MAX);
    const Bytes file = with_header(header);
    File parsed;
    CHECK(parse_header(file, {}, parsed).ok());
    CHECK(parsed.total_bytes == file.size() + std::uint64_t{kSegments} * UINT32_MAX);
    CHECK(check_complete(parsed, file.size()).code() == Code::truncated);
    CHECK(check_segments(parsed, file).code() == Code::truncated);
}

void writing_refuses() {
    const Sample sample = make_sample();
    const std::vector<std::span<const std::uint8_t>> payload(sample.segments.begin(), sample.segments.end());
    const auto refused = [&](const std::function<void(Header&)>& change) {
        Header header = sample.header;
        change(header);
        Bytes file;
        return write(header, payload, file).code() == Code::invalid_argument && file.empty();
    };
    CHECK(refused([](Header& header) { header.width = 0; }));
    CHECK(refused([](Header& header) { header.height = (1u << 24) + 1; }));
    CHECK(refused([](Header& header) { header.tile_size = UINT32_MAX; }));
    CHECK(refused([](Header& header) { header.parameters.resize(65); }));
    CHECK(refused([](Header& header) { header.parameters[0].resize(4097); }));
    CHECK(refused([](Header& header) { header.stages.resize(65); }));
    CHECK(refused([](Header& header) { header.stages.clear(); }));
    CHECK(refused([](Header& header) { header.stages[0].streams.resize(65); }));
    CHECK(refused([](Header& header) { header.stages[2].streams[0].tiles[0].lanes = 2; }));
    CHECK(refused([](Header& header) { header.stages[2].streams[0].tiles[0].segments[0].size = 8; }));
    CHECK(refused([](Header& header) { header.stages.pop_back(); }));  // payload left over
}

}  // namespace

int main() {
    round_trip();
    every_prefix_is_truncated();
    every_bit_flip_is_an_error();
    fields_out_of_range();
    hostile_headers_fail_fast();
    writing_refuses();
}
