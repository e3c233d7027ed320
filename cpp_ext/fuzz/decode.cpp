// Whole files: of any bytes, decoding with a bundle gives a picture or a typed status, the same with any
// number of threads; a region is the crop of the picture; and no run holds more memory than its budget.
#include <array>
#include <vector>

#include "../tests/bundle_build.hpp"
#include "input.hpp"
#include "nicrt/engine.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;
using engine::Array;
using program::Rect;

constexpr std::uint64_t kMemoryBytes = std::uint64_t{64} << 20;
constexpr Limits kLimits{1 << 16, 1 << 16, 4};

/// A bundle of one stream and one chain, and what runs it.
struct Codec {
    std::shared_ptr<const bundle::Bundle> bundle;
    std::shared_ptr<engine::Graphs> graphs;

    Codec() {
        MUST(bundle::Bundle::open(testing::source_of(testing::small_files()), bundle).ok());
        graphs = std::make_shared<engine::Graphs>(bundle, std::vector{engine::make_native_backend()}, 60.0,
                                                  engine::ProofMarks{});
    }
};

const Codec& codec() {
    static const Codec made;
    return made;
}

/// A file whose header and checksums are right, of which the segments are any bytes, or encoded symbols with
/// some bytes changed.
std::vector<std::uint8_t> built(Input& in) {
    const TensorShape shape{3, 1 + in.below(40), 1 + in.below(40)};
    const std::uint32_t tile = in.flag() ? 1 + in.below(24) : 0;
    std::vector<std::int32_t> symbols(shape.places());
    for (std::int32_t& symbol : symbols)
        symbol = static_cast<std::int8_t>(in.left() > 64 ? in.byte() : 0) >> 5;
    std::shared_ptr<const bundle::ChannelTables> tables;
    MUST(codec().bundle->codebook("g", std::array{0}, tables).ok());
    EncodedStream stream;
    MUST(encode_stream(*tables->codebook, {tables->channels.data(), true}, symbols.data(), shape, {tile, {}},
                       1 + in.below(4096), stream)
             .ok());
    for (unsigned changes = in.below(4); changes > 0 && !stream.bytes.empty(); --changes) {
        const auto place = in.below(static_cast<std::uint32_t>(stream.bytes.size()));
        stream.bytes[place] = in.byte();
    }
    Header header;
    header.symbol_id = {0xd0, 0xbd, 0x8b, 0xcf, 0xfb, 0x94, 0x14, 0xd5};
    header.picture_id = {0x63, 0x7e, 0xe1, 0x86};
    header.height = shape.height + in.below(2);
    header.width = shape.width;
    header.tile_size = tile;
    header.stages.resize(1 + in.below(2));
    header.stages[0].streams.push_back(stream.directory);
    const std::array<std::span<const std::uint8_t>, 1> payload{stream.bytes};
    std::vector<std::uint8_t> file;
    return write(header, payload, file).ok() ? file : std::vector<std::uint8_t>();
}

Status decode(std::span<const std::uint8_t> bytes, unsigned threads, const std::optional<Rect>& region,
              Array& picture) {
    File file;
    program::Opened opened;
    NICRT_RETURN_IF_ERROR(parse_header(bytes, kLimits, file));
    NICRT_RETURN_IF_ERROR(check_complete(file, bytes.size()));
    NICRT_RETURN_IF_ERROR(program::open_file(codec().bundle->manifest(), file.header, kLimits, opened));
    program::Request request;
    request.manifest = &codec().bundle->manifest();
    request.program = opened.program;
    request.values = opened.values;
    request.picture = {static_cast<std::int32_t>(file.header.height),
                       static_cast<std::int32_t>(file.header.width)};
    request.tile = file.header.tile_size;
    request.region = region;
    std::shared_ptr<const program::Plan> plan;
    const auto budget = std::make_shared<Budget>(kMemoryBytes);
    const Work work{&process_pool(), threads, nullptr, budget.get()};
    engine::Plans plans(codec().graphs, kMemoryBytes);
    NICRT_RETURN_IF_ERROR(plans.get(request, plan, work));
    engine::Execution::Input input;
    input.plan = plan.get();
    input.graphs = codec().graphs.get();
    input.file = bytes;
    input.directory = &file;
    input.tile = file.header.tile_size;
    input.work = work;
    {
        std::unique_ptr<engine::Execution> execution;
        NICRT_RETURN_IF_ERROR(engine::Execution::make(std::move(input), execution));
        NICRT_RETURN_IF_ERROR(execution->run());
        NICRT_RETURN_IF_ERROR(execution->shown(picture));
    }
    MUST(budget->most_held() <= kMemoryBytes);
    return {};
}

bool is_typed(const Status& status) {
    switch (status.code()) {
        case Code::ok:
        case Code::truncated:
        case Code::corrupt:
        case Code::unsupported:
        case Code::limit:
        case Code::wrong_bundle: return true;
        default: return false;
    }
}

void check_region(Input& in, std::span<const std::uint8_t> bytes, const Array& whole) {
    const auto height = static_cast<std::int32_t>(whole.shape[0]),
               width = static_cast<std::int32_t>(whole.shape[1]);
    Rect region;
    region.top = static_cast<std::int32_t>(in.below(static_cast<std::uint32_t>(height)));
    region.left = static_cast<std::int32_t>(in.below(static_cast<std::uint32_t>(width)));
    region.bottom =
        region.top + 1 + static_cast<std::int32_t>(in.below(static_cast<std::uint32_t>(height - region.top)));
    region.right = region.left + 1 +
                   static_cast<std::int32_t>(in.below(static_cast<std::uint32_t>(width - region.left)));
    Array part;
    MUST(decode(bytes, 1, region, part).ok());
    MUST(part.shape == std::vector<std::int64_t>{region.height(), region.width(), 3});
    const std::size_t row = 3 * static_cast<std::size_t>(region.width());
    for (std::int32_t y = 0; y < region.height(); ++y) {
        const std::size_t from =
            3 * (static_cast<std::size_t>(region.top + y) * static_cast<std::size_t>(width) +
                 static_cast<std::size_t>(region.left));
        MUST(std::memcmp(part.data + static_cast<std::size_t>(y) * row, whole.data + from, row) == 0);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    Input in(data, size);
    std::vector<std::uint8_t> bytes =
        in.flag() ? built(in) : std::vector<std::uint8_t>(data + 1, data + size);
    Array alone, together;
    const Status status = decode(bytes, 1, std::nullopt, alone);
    MUST(is_typed(status));
    const Status other = decode(bytes, 3, std::nullopt, together);
    MUST(status.code() == other.code() && status.message() == other.message());
    if (!status.ok()) return 0;
    MUST(alone.shape == together.shape && std::memcmp(alone.data, together.data, alone.bytes()) == 0);
    check_region(in, bytes, alone);
    return 0;
}
