#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "kernels.hpp"
#include "parallel.hpp"
#include "staging.hpp"
#include "tables.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

using std::to_string;

// What 32-bit numbers in the kernels hold with room to spare.
constexpr std::uint64_t kMaxPlaces = std::uint64_t{1} << 28;  ///< of a picture; times 12 raw bits below 2^32
constexpr std::uint64_t kMaxTiles = std::uint64_t{1} << 28;   ///< of a batch
constexpr std::uint64_t kMaxChunks = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxStagingBytes = std::uint64_t{1} << 31;
constexpr std::uint64_t kMaxPictures = 1u << 16;

Status too_large(const std::string& what) { return {Code::limit, "too large for one decoder: " + what}; }

std::uint32_t ceil_divide(std::uint32_t a, std::uint32_t b) { return (a - 1) / b + 1; }

Status make_grid(const DecoderShape& shape, BatchGrid& grid) {
    const TensorShape& tensor = shape.tensor;
    if (shape.pictures == 0 || tensor.channels == 0 || tensor.height == 0 || tensor.width == 0)
        return invalid_argument("a batch of symbols without places");
    if (std::uint64_t{tensor.height} * tensor.width > kMaxPlaces / tensor.channels)
        return too_large("a picture with more than 2^28 places");
    if (shape.pictures > kMaxPictures) return too_large("more than 2^16 pictures");
    grid.pictures = shape.pictures;
    grid.channels = tensor.channels;
    grid.height = tensor.height;
    grid.width = tensor.width;
    const std::uint32_t longest = std::max(grid.height, grid.width);
    grid.edge = shape.tile == 0 ? longest : std::min(shape.tile, longest);
    grid.rows = ceil_divide(grid.height, grid.edge);
    grid.columns = ceil_divide(grid.width, grid.edge);
    const std::uint32_t height = std::min(grid.edge, grid.height), width = std::min(grid.edge, grid.width);
    grid.chunks_per_tile = ceil_divide(grid.channels * height * width, kChunkPlaces);
    const std::uint64_t tiles = std::uint64_t{grid.rows} * grid.columns * grid.pictures;
    if (tiles > kMaxTiles || tiles * grid.chunks_per_tile > kMaxChunks)
        return too_large("the tiles of a batch");
    grid.by_chunks = Divisor(grid.chunks_per_tile);
    grid.by_columns = Divisor(grid.columns);
    grid.by_tiles = Divisor(grid.tiles());
    grid.by_height[0] = Divisor(height);
    grid.by_height[1] = Divisor(grid.height - (grid.rows - 1) * grid.edge);
    grid.by_width[0] = Divisor(width);
    grid.by_width[1] = Divisor(grid.width - (grid.columns - 1) * grid.edge);
    return {};
}

const char* message_of(Fault fault) {
    switch (fault) {
        case Fault::segment_count: return "a tile's segments do not go with its coded symbols";
        case Fault::part_sizes: return "sizes of the parts of a segment do not add up";
        case Fault::raw_padding: return "unused raw bits are set";
        case Fault::words: return "segment has too few words";
        case Fault::final_state: return "words are left over or a final state is wrong";
        case Fault::escapes: return "escapes are too few, too many or coded by their table";
        case Fault::range: return "a symbol is not a 16-bit one";
        case Fault::limits: return "a symbol is beyond what the graphs that read it are exact for";
    }
    return "unknown fault";
}

}  // namespace

struct StreamDecoder::Impl {
    QueuePtr queue;
    DecoderShape shape;
    EntropyBatch batch;
    std::unique_ptr<Staging> staging;
    std::vector<std::shared_ptr<Memory>> memory;
    std::size_t device_bytes = 0;
    std::shared_ptr<PinnedMemory> fault;
    std::shared_ptr<Event> copied;   ///< when the staging memory may be written again
    std::uint8_t* staged = nullptr;  ///< its copy on the device

    template <class Value>
    Status take(Value*& array, std::size_t count);
    Status take_arrays();
    Status copy_tables(const Codebook& codebook);
    Status prepare(const Codebook& codebook);
    Status upload(std::size_t bytes);
};

/// An array on the device. One allocation each: the sanitizers of the host build then see where it ends.
template <class Value>
Status StreamDecoder::Impl::take(Value*& array, std::size_t count) {
    std::shared_ptr<Memory> taken;
    NICRT_RETURN_IF_ERROR(Memory::allocate(queue, count * sizeof(Value), taken));
    array = reinterpret_cast<Value*>(taken->data());
    device_bytes += taken->bytes();
    memory.push_back(std::move(taken));
    return {};
}

Status StreamDecoder::Impl::take_arrays() {
    const BatchGrid& grid = batch.grid;
    const std::size_t places = grid.pictures * grid.picture_places();
    NICRT_RETURN_IF_ERROR(take(batch.chunks, grid.batch_chunks()));
    NICRT_RETURN_IF_ERROR(take(batch.totals, grid.batch_tiles()));
    NICRT_RETURN_IF_ERROR(take(batch.ids, places));
    NICRT_RETURN_IF_ERROR(take(batch.quotients, places));
    NICRT_RETURN_IF_ERROR(take(batch.segment_bits, shape.max_segments));
    NICRT_RETURN_IF_ERROR(take(batch.raw_places, shape.max_segments));
    return take(batch.fault, 1);
}

Status StreamDecoder::Impl::copy_tables(const Codebook& codebook) {
    const TablesImage tables = make_tables(codebook, queue->shared_limit());
    std::uint8_t* copy = nullptr;
    NICRT_RETURN_IF_ERROR(take(copy, tables.bytes.size()));
    batch.tables = tables.at(copy);
    NICRT_RETURN_IF_ERROR(queue->copy_to_device(copy, tables.bytes.data(), tables.bytes.size()));
    if (shape.channel_ids != nullptr) {
        std::uint8_t* channels = nullptr;
        NICRT_RETURN_IF_ERROR(take(channels, batch.grid.channels));
        NICRT_RETURN_IF_ERROR(queue->copy_to_device(channels, shape.channel_ids, batch.grid.channels));
        batch.index.channel_ids = shape.channel_ids = channels;
    }
    return queue->synchronize();  // what was copied may go
}

Status StreamDecoder::Impl::prepare(const Codebook& codebook) {
    const StagingLayout& layout = staging->layout();
    NICRT_RETURN_IF_ERROR(copy_tables(codebook));
    NICRT_RETURN_IF_ERROR(take_arrays());
    NICRT_RETURN_IF_ERROR(take(staged, layout.bytes));
    batch.segment_count = reinterpret_cast<const std::uint32_t*>(staged);
    batch.tiles = reinterpret_cast<const TileEntry*>(staged + layout.tiles);
    batch.segments = reinterpret_cast<const SegmentEntry*>(staged + layout.segments);
    batch.payload = staged + layout.payload;
    batch.payload_bytes = static_cast<std::uint32_t>(layout.bytes - layout.payload);
    NICRT_RETURN_IF_ERROR(PinnedMemory::allocate(sizeof kNoFault, fault));
    std::memcpy(fault->data(), &kNoFault, sizeof kNoFault);
    return upload(staging->clear());
}

Status StreamDecoder::Impl::upload(std::size_t bytes) {
    NICRT_RETURN_IF_ERROR(queue->copy_to_device(staged, staging->data(), bytes));
    return queue->record(copied);
}

StreamDecoder::StreamDecoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StreamDecoder::~StreamDecoder() = default;

Status StreamDecoder::make(QueuePtr queue, const Codebook& codebook, const DecoderShape& shape,
                           std::unique_ptr<StreamDecoder>& out) {
    return status_of([&]() -> Status {
        if (queue->capturing())
            return invalid_argument("a decoder cannot be made while the queue is capturing");
        auto impl = std::make_unique<Impl>();
        impl->queue = std::move(queue);
        impl->shape = shape;
        NICRT_RETURN_IF_ERROR(make_grid(shape, impl->batch.grid));
        if (shape.max_bytes > kMaxStagingBytes || shape.max_segments > kMaxStagingBytes ||
            StagingLayout(impl->batch.grid.batch_tiles(), shape.max_segments, shape.max_bytes).bytes >
                kMaxStagingBytes)
            return too_large("more than 2^31 bytes of segments");
        NICRT_RETURN_IF_ERROR(Staging::make(impl->batch.grid, shape, impl->staging));
        NICRT_RETURN_IF_ERROR(impl->prepare(codebook));
        out.reset(new StreamDecoder(std::move(impl)));
        return {};
    });
}

const DecoderShape& StreamDecoder::shape() const { return impl_->shape; }
std::size_t StreamDecoder::device_bytes() const { return impl_->device_bytes; }
std::size_t StreamDecoder::host_bytes() const { return impl_->staging->layout().bytes + sizeof kNoFault; }

Status StreamDecoder::set(std::span<const FileStream> files) {
    return status_of([&]() -> Status {
        if (impl_->queue->capturing())
            return invalid_argument("a batch cannot be set while the queue is capturing");
        NICRT_RETURN_IF_ERROR(impl_->copied->synchronize());
        std::size_t bytes = 0;
        NICRT_RETURN_IF_ERROR(impl_->staging->fill(files, bytes));
        return impl_->upload(bytes);
    });
}

Status StreamDecoder::run(IndexTensor index, std::int32_t* symbols) {
    return status_of([&]() -> Status {
        EntropyBatch batch = impl_->batch;
        const bool by_channel = batch.index.channel_ids != nullptr;
        if ((index.ids == nullptr) != by_channel)
            return invalid_argument(by_channel ? "the tables of this decoder go by channel: no index"
                                               : "the decoder needs an index tensor");
        if (!by_channel && (index.height < batch.grid.height || index.width < batch.grid.width))
            return invalid_argument("the index tensor is smaller than the symbols");
        batch.index.ids = index.ids;
        batch.index.height = index.height;
        batch.index.width = index.width;
        batch.symbols = symbols;
        batch.low = impl_->shape.low;
        batch.high = impl_->shape.high;
        NICRT_RETURN_IF_ERROR(
            decode_batch(*impl_->queue, batch, static_cast<std::uint32_t>(impl_->shape.max_segments)));
        return impl_->queue->copy_to_host(impl_->fault->data(), batch.fault, sizeof kNoFault);
    });
}

Status StreamDecoder::check() const {
    std::uint64_t word = kNoFault;
    std::memcpy(&word, impl_->fault->data(), sizeof word);
    if (word == kNoFault) return {};
    const FaultReport report = FaultReport::from(word);
    const std::uint32_t tiles = impl_->batch.grid.tiles();
    const std::string picture =
        impl_->shape.pictures == 1 ? "" : "picture " + to_string(report.tile / tiles) + " of the batch, ";
    return corrupt(picture + "tile " + to_string(report.tile % tiles) + ", segment " +
                   to_string(report.segment) + ": " + message_of(report.fault));
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
