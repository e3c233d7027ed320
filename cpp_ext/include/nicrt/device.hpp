// Decoding on a device, from the bytes of a file to pixels: queues, memory, entropy decoding, pictures.
//
// One source, compiled twice: by the C++ compiler for this processor (library nicrt), where all work is done
// at once by the calling thread, and by nvcc for NVIDIA GPUs (library nicrt_cuda, which defines
// NICRT_DEVICE_CUDA for those who link it). Everything is the same but for speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nicrt/codebook.hpp"
#include "nicrt/container.hpp"
#include "nicrt/status.hpp"
#include "nicrt/stream.hpp"

// The two builds in one process keep apart by this inner namespace.
#ifdef NICRT_DEVICE_CUDA
#define NICRT_DEVICE_BUILD cuda
#else
#define NICRT_DEVICE_BUILD host
#endif

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// Usable devices; 0 where there is no driver.
[[nodiscard]] int device_count();

/// As its maker calls it, with the compute capability.
Status device_name(int device, std::string& name);

class Queue;
using QueuePtr = std::shared_ptr<Queue>;

/// A point in a queue.
class Event {
public:
    ~Event();
    Status synchronize();
    /// On the device's clock, from `start` to this event; both must have come.
    Status elapsed_ms(const Event& start, float& milliseconds) const;

    struct Impl;
    [[nodiscard]] Impl& impl() const { return *impl_; }
    explicit Event(std::unique_ptr<Impl> impl);

private:
    std::unique_ptr<Impl> impl_;
};

/// Captured work; keeps none of the memory that it uses alive.
class Graph {
public:
    ~Graph();
    Status replay();  ///< on the queue that it was captured from

    struct Impl;
    explicit Graph(std::unique_ptr<Impl> impl);

private:
    std::unique_ptr<Impl> impl_;
};

/// Work in the order in which it is asked for (CUDA: a stream). Not for two threads at once.
class Queue {
public:
    static Status make(int device, QueuePtr& out);
    ~Queue();

    [[nodiscard]] int device() const;
    [[nodiscard]] std::uintptr_t handle() const;     ///< cudaStream_t; 0 on the host
    [[nodiscard]] unsigned processors() const;       ///< multiprocessors of the device
    [[nodiscard]] std::size_t shared_limit() const;  ///< bytes of shared memory that a block may ask for

    [[nodiscard]] bool capturing() const;
    Status synchronize();
    Status record(std::shared_ptr<Event>& out);
    Status wait(const Event& event);
    /// Makes a foreign queue, by its handle, wait for the work so far.
    Status release_to(std::uintptr_t handle);

    Status begin_capture();
    static Status end_capture(const QueuePtr& queue, std::unique_ptr<Graph>& out);

    Status copy_to_device(void* to, const void* from, std::size_t bytes);
    Status copy_to_host(void* to, const void* from, std::size_t bytes);
    Status copy_on_device(void* to, const void* from, std::size_t bytes);

    struct Impl;
    [[nodiscard]] Impl& impl() { return *impl_; }
    explicit Queue(std::unique_ptr<Impl> impl);

private:
    std::unique_ptr<Impl> impl_;
};

/// Device memory at an address that is a multiple of 256, freed in the order of its queue's work.
class Memory {
public:
    /// limit: the device has not that much.
    static Status allocate(QueuePtr queue, std::size_t bytes, std::shared_ptr<Memory>& out);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    [[nodiscard]] std::uint8_t* data() const { return data_; }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }
    [[nodiscard]] const QueuePtr& queue() const { return queue_; }

private:
    Memory(QueuePtr queue, std::uint8_t* data, std::size_t bytes);
    QueuePtr queue_;
    std::uint8_t* data_;
    std::size_t bytes_;
};

/// Page-locked host memory, which copies from and to the device need in order not to wait.
class PinnedMemory {
public:
    static Status allocate(std::size_t bytes, std::shared_ptr<PinnedMemory>& out);
    ~PinnedMemory();
    PinnedMemory(const PinnedMemory&) = delete;
    PinnedMemory& operator=(const PinnedMemory&) = delete;

    [[nodiscard]] std::uint8_t* data() const { return data_; }

private:
    explicit PinnedMemory(std::uint8_t* data) : data_(data) {}
    std::uint8_t* data_;
};

/// What a decoder of one entropy step is made for.
struct DecoderShape {
    std::uint32_t pictures = 1;
    TensorShape tensor;
    std::uint32_t tile = 0;                     ///< edge of a tile in places, 0 for one tile
    std::size_t max_bytes = 0;                  ///< of all streams of a batch
    std::size_t max_segments = 0;               ///< of all streams of a batch
    const std::uint8_t* channel_ids = nullptr;  ///< [channels] where the tables go by channel
    std::int32_t low = -32768, high = 32767;    ///< a symbol beyond them is damage
};

/// One picture's stream, and the bytes that its offsets count in.
struct FileStream {
    std::span<const std::uint8_t> file;
    const nicrt::Stream* directory = nullptr;
};

/// Index of a batch on the device: uint8 [pictures, channels, height, width], of which the top left is read.
struct IndexTensor {
    const std::uint8_t* ids = nullptr;
    std::uint32_t height = 0, width = 0;
};

/// Decodes one entropy step of batches of equal shape. All memory is taken when it is made; which kernels
/// run, and how large, depends on the shape only, so that a captured graph serves every batch.
class StreamDecoder {
public:
    static Status make(QueuePtr queue, const Codebook& codebook, const DecoderShape& shape,
                       std::unique_ptr<StreamDecoder>& out);
    ~StreamDecoder();

    [[nodiscard]] const DecoderShape& shape() const;
    [[nodiscard]] std::size_t device_bytes() const;
    /// Page-locked memory of the host.
    [[nodiscard]] std::size_t host_bytes() const;

    /// Checks what needs no symbols, the checksums included, and queues one copy to the device. Waits until
    /// the copy of the batch before is through. corrupt, truncated: as decode_stream; limit: more than
    /// max_bytes or max_segments.
    Status set(std::span<const FileStream> files);

    /// Queues the decoding of what was set. symbols: int32 [pictures, channels, height, width] on the device;
    /// index.ids: null exactly where the tables go by channel.
    Status run(IndexTensor index, std::int32_t* symbols);

    /// After the queue has been waited for: corrupt when the last run met damage.
    [[nodiscard]] Status check() const;

private:
    struct Impl;
    explicit StreamDecoder(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Planes [height, width] of elements of 1, 2, 4 or 8 bytes.
struct Planes {
    std::uint8_t* data = nullptr;
    std::uint64_t count = 0;
    std::uint32_t height = 0, width = 0;
};

/// Queues out[plane][y][x] = source[plane][top + y][left + x].
Status crop(Queue& queue, const Planes& source, const Planes& out, std::uint32_t top, std::uint32_t left,
            std::size_t element_bytes);

enum class PictureFormat { rgb, planar, nv12 };

/// uint8 [count, height, width, 3].
struct Pictures {
    const std::uint8_t* data = nullptr;
    std::uint32_t count = 0, height = 0, width = 0;
};

/// Rows of the output of `store`, one picture after the other without gaps but for the row's.
struct StoredRows {
    std::uint8_t* data = nullptr;
    std::size_t row_bytes = 0;
};

/// Queues the conversion of the top left height x width of every picture. Rows of a picture: rgb, height of R
/// G B triples; planar, 3 * height; nv12, height of Y, then ceil(height / 2) of Cb Cr pairs. nv12: BT.709,
/// limited range, 16-bit fixed point, rounded to nearest (an exact half upwards); chroma from the sum of each
/// 2x2 pixels. At an odd edge the last row or column is taken twice, and a row of Y ends with its last pixel
/// twice. Bytes past a row's pixels are not touched otherwise.
Status store(Queue& queue, const Pictures& pictures, std::uint32_t height, std::uint32_t width,
             PictureFormat format, const StoredRows& out);

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
