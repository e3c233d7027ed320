// Plays a record of the golden files again (tests/golden/record_entropy.py says what is in it): every
// container must answer with the code that it should, and every stream give the symbols that it gave where it
// was recorded.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "check.hpp"
#include "nicrt/codebook.hpp"
#include "nicrt/container.hpp"
#include "nicrt/stream.hpp"

namespace {

using namespace nicrt;

class Record {
public:
    explicit Record(std::vector<char> bytes) : bytes_(std::move(bytes)) {}

    template <class Number>
    Number number() {
        Number value = 0;
        for (std::size_t i = 0; i < sizeof value; ++i)
            value = static_cast<Number>(value | static_cast<Number>(std::uint64_t{take(1)[0]} << (8 * i)));
        return value;
    }

    std::span<const std::uint8_t> sized() { return take(number<std::uint32_t>()); }

    template <class Number>
    std::vector<Number> numbers(std::size_t count) {
        std::vector<Number> values(count);
        for (auto& value : values) value = number<Number>();
        return values;
    }

    [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

private:
    std::span<const std::uint8_t> take(std::size_t count) {
        CHECK(count <= bytes_.size() - at_);
        at_ += count;
        return {reinterpret_cast<const std::uint8_t*>(bytes_.data()) + at_ - count, count};
    }

    std::vector<char> bytes_;
    std::size_t at_ = 0;
};

std::shared_ptr<const Codebook> read_tables(Record& record) {
    const auto count = record.number<std::uint32_t>();
    std::vector<std::vector<std::uint16_t>> frequencies(count);
    std::vector<TableView> views;
    for (auto& table : frequencies) {
        const auto low = record.number<std::int16_t>();
        const auto shift = record.number<std::uint8_t>();
        table = record.numbers<std::uint16_t>(record.number<std::uint32_t>());
        views.push_back({low, shift, table});
    }
    std::shared_ptr<const Codebook> codebook;
    CHECK(Codebook::build(views, codebook).ok());
    return codebook;
}

void play_stream(Record& record, std::span<const std::uint8_t> file, const Stream& directory) {
    const auto codebook = read_tables(record);
    const auto extents = record.numbers<std::uint32_t>(3);
    const TensorShape shape{extents[0], extents[1], extents[2]};
    const auto tile = record.number<std::uint32_t>();
    const bool by_channel = record.number<std::uint8_t>() != 0;
    const TableChoice choice{record.sized().data(), by_channel};
    const auto expected = record.numbers<std::int32_t>(shape.places());
    for (const unsigned threads : {1u, 2u}) {
        std::vector<std::int32_t> symbols(shape.places(), 77);
        CHECK(decode_stream(*codebook, choice, shape, {tile, {&process_pool(), threads}}, file, directory,
                            symbols.data())
                  .ok());
        CHECK(symbols == expected);
    }
}

Status check_container(std::span<const std::uint8_t> bytes, File& file) {
    NICRT_RETURN_IF_ERROR(parse_header(bytes, {}, file));
    NICRT_RETURN_IF_ERROR(check_complete(file, bytes.size()));
    return check_segments(file, bytes);
}

std::size_t play_file(Record& record) {
    const auto name = record.sized();
    std::printf("%.*s\n", static_cast<int>(name.size()), reinterpret_cast<const char*>(name.data()));
    const auto bytes = record.sized();
    const auto code = static_cast<Code>(record.number<std::uint8_t>());
    const auto streams = record.number<std::uint32_t>();
    File file;
    CHECK(check_container(bytes, file).code() == code);
    std::vector<const Stream*> directories;
    for (const Stage& stage : file.header.stages)
        for (const Stream& stream : stage.streams) directories.push_back(&stream);
    if (streams == 0) return 0;  // a bad file, or one of another bundle
    CHECK(streams == directories.size());
    for (const Stream* directory : directories) play_stream(record, bytes, *directory);
    return streams;
}

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc == 2);
    std::ifstream in(argv[1], std::ios::binary);
    Record record({std::istreambuf_iterator<char>(in), {}});
    const auto files = record.number<std::uint32_t>();
    std::size_t streams = 0;
    for (std::uint32_t i = 0; i < files; ++i) streams += play_file(record);
    CHECK(record.at_end() && files > 0 && streams > 0);
    std::printf("%u golden files, %zu streams: all symbols equal\n", files, streams);
}
