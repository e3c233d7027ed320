// The device decoder, as it is built for the host: it takes and refuses what the CPU's decoder does, and
// gives the same symbols.
#include "nicrt/device.hpp"

#include "stream_case.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

Status decode(const StreamCase& c, std::span<const std::uint8_t> file, std::vector<std::int32_t>& symbols) {
    static device::QueuePtr queue = [] {
        device::QueuePtr made;
        MUST(device::Queue::make(0, made).ok());
        return made;
    }();
    device::DecoderShape shape;
    shape.tensor = c.shape;
    shape.tile = c.tile;
    shape.max_bytes = file.size() + 16;
    shape.max_segments = 1;
    for (const Tile& tile : c.encoded.directory.tiles) shape.max_segments += tile.segments.size();
    if (c.by_channel) shape.channel_ids = c.ids.data();
    std::unique_ptr<device::StreamDecoder> decoder;
    MUST(device::StreamDecoder::make(queue, *c.codebook, shape, decoder).ok());
    const device::FileStream stream{file, &c.encoded.directory};
    NICRT_RETURN_IF_ERROR(decoder->set(std::span(&stream, 1)));
    const std::uint8_t* const index = c.by_channel ? nullptr : c.ids.data();
    NICRT_RETURN_IF_ERROR(decoder->run({index, c.shape.height, c.shape.width}, symbols.data()));
    return decoder->check();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    const StreamCase c(in);
    if (c.codebook == nullptr) return 0;
    const Exact file(c.encoded.bytes);
    std::vector<std::int32_t> expected(c.shape.places(), 77), symbols(c.shape.places(), 78);
    const Status on_cpu = c.decode(file, 1, expected.data());
    const Status on_device = decode(c, file.bytes(), symbols);
    MUST(on_cpu.ok() == on_device.ok());
    if (on_cpu.ok()) MUST(symbols == expected);
    return 0;
}
