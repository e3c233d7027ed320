// Container: bytes as a whole file, and once more as the fields of a header whose size and checksum are made
// right here, so that the fuzzer gets behind them. What is parsed is within its limits, and is written as it
// was read.
#include "nicrt/container.hpp"
#include "input.hpp"
#include "nicrt/crc32c.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

constexpr std::uint64_t kMostPayloadBytes = 1u << 20;  // more would only take longer to write

void put_varint(std::vector<std::uint8_t>& out, std::size_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
    out.push_back(static_cast<std::uint8_t>(value));
}

std::vector<std::uint8_t> sealed(std::span<const std::uint8_t> fields, std::size_t payload_bytes) {
    std::vector<std::uint8_t> file{0x89, 0x4E, 0x49, 0x43, 0x0D, 0x0A, 0x1A, 0x0A, 1};
    put_varint(file, fields.size());
    file.insert(file.end(), fields.begin(), fields.end());
    const std::uint32_t crc = crc32c(file);
    for (int i = 0; i < 4; ++i) file.push_back(static_cast<std::uint8_t>(crc >> 8 * i));
    file.resize(file.size() + payload_bytes);
    return file;
}

void check_parsed(const File& file, const Limits& limits, std::span<const std::uint8_t> bytes) {
    MUST(file.header_bytes <= bytes.size() && file.total_bytes >= file.header_bytes);
    MUST(std::uint64_t{file.header.width} * file.header.height <= limits.max_pixels);
    MUST(file.complete_stages(bytes.size()) <= file.header.stages.size());
    (void)check_complete(file, bytes.size());
    (void)check_segments(file, bytes);
    (void)check_segments(file, bytes, 1);
    if (file.total_bytes - file.header_bytes > kMostPayloadBytes) return;
    const std::vector<std::uint8_t> payload(static_cast<std::size_t>(file.total_bytes - file.header_bytes));
    const std::span<const std::uint8_t> piece(payload);
    std::vector<std::uint8_t> again;
    MUST(write(file.header, std::span(&piece, 1), again).ok());
    MUST(again.size() == file.total_bytes);
    MUST(std::memcmp(again.data(), bytes.data(), static_cast<std::size_t>(file.header_bytes)) == 0);
}

void check(std::span<const std::uint8_t> bytes) {
    const Exact file(bytes);
    const Limits limits;
    File parsed;
    const Status status = parse_header(file.bytes(), limits, parsed);
    MUST(status.code() != Code::internal && status.code() != Code::invalid_argument);
    if (status.ok()) check_parsed(parsed, limits, file.bytes());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span bytes(data, size);
    check(bytes);
    const std::size_t payload_bytes = size == 0 ? 0 : 64 * std::size_t{data[size - 1]};
    check(sealed(bytes, payload_bytes));
    return 0;
}
