#include "kernels.hpp"

#include "picture_kernels.hpp"
#include "rans_kernel.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

template <class Kernel>
Status launch_chunks(Queue& queue, const EntropyBatch& batch) {
    const u32 blocks = (batch.grid.batch_chunks() + Kernel::kWarps - 1) / Kernel::kWarps;
    return launch(queue, {blocks, 0}, Kernel(batch));
}

template <class Unit>
Status copy_rows(Queue& queue, const Planes& source, std::size_t offset, const Planes& out, u32 columns) {
    const CopyRows<Unit> step{reinterpret_cast<const Unit*>(source.data) + offset,
                              reinterpret_cast<Unit*>(out.data),
                              out.height,
                              u64{source.height} * source.width,
                              source.width,
                              u64{out.height} * out.width,
                              out.width};
    return launch_rows(queue, out.count * out.height, columns, step);
}

/// Planes of bytes, `columns` of each row.
Status copy_byte_rows(Queue& queue, Planes source, Planes out, u32 columns) {
    const auto addresses =
        reinterpret_cast<std::uintptr_t>(source.data) | reinterpret_cast<std::uintptr_t>(out.data);
    if ((addresses | source.width | out.width | columns) % sizeof(u32) != 0)
        return copy_rows<u8>(queue, source, 0, out, columns);
    source.width /= sizeof(u32);
    out.width /= sizeof(u32);
    return copy_rows<u32>(queue, source, 0, out, columns / sizeof(u32));
}

}  // namespace

Status decode_batch(Queue& queue, const EntropyBatch& batch, std::uint32_t max_segments) {
    NICRT_RETURN_IF_ERROR(launch_chunks<CountKernel>(queue, batch));
    NICRT_RETURN_IF_ERROR(launch(queue, {batch.grid.batch_tiles(), 0}, ScanKernel(batch)));
    NICRT_RETURN_IF_ERROR(launch_chunks<FillKernel>(queue, batch));
    const u32 blocks = max_segments < queue.processors() ? max_segments : queue.processors();
    if (blocks > 0)
        NICRT_RETURN_IF_ERROR(launch(queue, {blocks, batch.tables.shared_bytes}, RansKernel{batch}));
    return launch_chunks<ScatterKernel>(queue, batch);
}

Status crop(Queue& queue, const Planes& source, const Planes& out, std::uint32_t top, std::uint32_t left,
            std::size_t element_bytes) {
    const bool fits = source.count == out.count && top <= source.height &&
                      out.height <= source.height - top && left <= source.width &&
                      out.width <= source.width - left;
    if (!fits) return invalid_argument("the crop does not lie in its source");
    const std::size_t offset = std::size_t{top} * source.width + left;
    switch (element_bytes) {
        case 1: return copy_rows<u8>(queue, source, offset, out, out.width);
        case 2: return copy_rows<u16>(queue, source, offset, out, out.width);
        case 4: return copy_rows<u32>(queue, source, offset, out, out.width);
        case 8: return copy_rows<u64>(queue, source, offset, out, out.width);
        default: return invalid_argument("elements have 1, 2, 4 or 8 bytes");
    }
}

Status store(Queue& queue, const Pictures& pictures, std::uint32_t height, std::uint32_t width,
             PictureFormat format, const StoredRows& out) {
    constexpr u32 kMaxEdge = 1u << 24;
    if (height == 0 || width == 0 || height > pictures.height || width > pictures.width ||
        pictures.height > kMaxEdge || pictures.width > kMaxEdge || out.row_bytes > 4 * std::size_t{kMaxEdge})
        return invalid_argument("the picture to store does not lie in its source");
    const u32 pairs = width - width / 2;
    const std::size_t least = format == PictureFormat::rgb      ? std::size_t{3} * width
                              : format == PictureFormat::planar ? width
                                                                : std::size_t{2} * pairs;
    if (out.row_bytes < least) return invalid_argument("rows of the output are too short");
    const Pixels pixels{pictures.data, pictures.height, pictures.width};
    const u64 rows = u64{pictures.count} * height;
    switch (format) {
        case PictureFormat::planar:
            return launch_rows(queue, rows, width, StorePlanar{pixels, out.data, height, out.row_bytes});
        case PictureFormat::nv12:
            return launch_rows(queue, u64{pictures.count} * (height - height / 2), pairs,
                               StoreNv12{pixels, out.data, height, width, out.row_bytes});
        default:
            return copy_byte_rows(
                queue, {const_cast<u8*>(pictures.data), pictures.count, pictures.height, 3 * pictures.width},
                {out.data, pictures.count, height, static_cast<u32>(out.row_bytes)}, 3 * width);
    }
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
