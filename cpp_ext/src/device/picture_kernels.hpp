// Cropping planes, and pictures in the formats that displays and video encoders take.
#pragma once

#include "launch.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// Strides in units.
template <class Unit>
struct CopyRows {
    const Unit* from;
    Unit* to;
    u32 rows;  ///< of a plane
    u64 from_plane, from_row, to_plane, to_row;

    NICRT_DEVICE void operator()(u64 row, u32 column) const {
        const u64 plane = row / rows, y = row % rows;
        to[plane * to_plane + y * to_row + column] = from[plane * from_plane + y * from_row + column];
    }
};

struct Pixels {
    const u8* data;
    u32 height, width;  ///< as they lie in memory

    NICRT_DEVICE const u8* at(u64 picture, u32 y, u32 x) const {
        return data + ((picture * height + y) * width + x) * 3;
    }
};

struct StorePlanar {
    Pixels pixels;
    u8* out;
    u32 height;
    u64 row_bytes;

    NICRT_DEVICE void operator()(u64 row, u32 x) const {
        const u64 picture = row / height;
        const auto y = static_cast<u32>(row % height);
        const u8* const pixel = pixels.at(picture, y, x);
        u8* const to = out + (picture * 3 * height + y) * row_bytes + x;
        for (u32 plane = 0; plane < 3; ++plane) to[plane * height * row_bytes] = pixel[plane];
    }
};

/// A pixel's weights in units of 2^-16; those of a chroma component add up to 0, so that grey is exactly 128.
struct Weights {
    i32 r, g, b;
    NICRT_DEVICE i32 of(const i32* rgb) const { return r * rgb[0] + g * rgb[1] + b * rgb[2]; }
};

/// Rows of 2x2 pixels. ITU-R BT.709-6: Y' = 0.2126 R' + 0.7152 G' + 0.0722 B', Cb = (B' - Y') / 1.8556, Cr =
/// (R' - Y') / 1.5748; limited range: 16 + 219 Y', 128 + 224 C.
struct StoreNv12 {
    Pixels pixels;
    u8* out;
    u32 height, width;  ///< shown
    u64 row_bytes;

    NICRT_DEVICE void operator()(u64 row, u32 pair) const {
        constexpr Weights luma{11966, 40254, 4064}, cb{-6596, -22189, 28785}, cr{28784, -26145, -2639};
        const u32 chroma_rows = height - height / 2;
        const u64 picture = row / chroma_rows;
        const auto y = static_cast<u32>(row % chroma_rows) * 2;
        u8* const top = out + picture * (height + chroma_rows) * row_bytes;
        i32 sum[3] = {0, 0, 0};
        for (u32 i = 0; i < 4; ++i) {
            const u32 dy = i / 2, dx = i % 2;
            const bool row_there = y + dy < height, column_there = pair * 2 + dx < width;
            const u8* const pixel =
                pixels.at(picture, row_there ? y + dy : y, pair * 2 + (column_there ? dx : 0));
            const i32 rgb[3] = {pixel[0], pixel[1], pixel[2]};
            for (u32 c = 0; c < 3; ++c) sum[c] += rgb[c];
            if (row_there)  // at an odd right edge the last pixel twice: no byte of a pair stays undefined
                top[(y + dy) * row_bytes + pair * 2 + dx] =
                    static_cast<u8>((luma.of(rgb) + (16 << 16) + (1 << 15)) >> 16);
        }
        u8* const chroma = top + (height + y / 2) * row_bytes + u64{pair} * 2;
        chroma[0] = static_cast<u8>((cb.of(sum) + (128 << 18) + (1 << 17)) >> 18);
        chroma[1] = static_cast<u8>((cr.of(sum) + (128 << 18) + (1 << 17)) >> 18);
    }
};

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
