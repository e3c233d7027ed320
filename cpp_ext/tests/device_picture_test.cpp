// Cropping and storing pictures on a device, compiled for the host.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "nicrt/device.hpp"

namespace {

using namespace nicrt;
using device::QueuePtr;

std::mt19937 random_bits(1);

int random_int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }

QueuePtr make_queue() {
    QueuePtr queue;
    CHECK(device::Queue::make(0, queue).ok());
    return queue;
}

void crops() {
    const auto queue = make_queue();
    std::vector<std::uint8_t> source(8 * 2 * 7 * 9);
    for (auto& byte : source) byte = static_cast<std::uint8_t>(random_int(0, 255));
    for (const std::size_t size : {1u, 2u, 4u, 8u}) {
        std::vector<std::uint8_t> out(size * 2 * 4 * 5);
        CHECK(device::crop(*queue, {source.data(), 2, 7, 9}, {out.data(), 2, 4, 5}, 3, 4, size).ok());
        for (std::size_t i = 0; i < out.size(); ++i) {
            const std::size_t item = i / size, plane = item / 20, y = item / 5 % 4, x = item % 5;
            CHECK(out[i] == source[((plane * 7 + 3 + y) * 9 + 4 + x) * size + i % size]);
        }
    }
    std::vector<std::uint8_t> out(2 * 4 * 5);
    const auto code = [&](std::uint32_t top, std::uint32_t left, std::size_t size) {
        return device::crop(*queue, {source.data(), 2, 7, 9}, {out.data(), 2, 4, 5}, top, left, size).code();
    };
    CHECK(code(4, 0, 1) == Code::invalid_argument && code(0, 5, 1) == Code::invalid_argument);
    CHECK(code(0, 0, 3) == Code::invalid_argument && code(UINT32_MAX, 0, 1) == Code::invalid_argument);
}

struct Stored {
    std::vector<std::uint8_t> picture;  ///< [2, 13, 16, 3]
    std::uint32_t height, width;

    [[nodiscard]] int at(std::size_t n, std::size_t y, std::size_t x, std::size_t c) const {
        return picture[((n * 13 + std::min<std::size_t>(y, height - 1)) * 16 +
                        std::min<std::size_t>(x, width - 1)) *
                           3 +
                       c];
    }
};

void check_planes(const Stored& in, std::size_t row_bytes, const std::vector<std::uint8_t>& rgb,
                  const std::vector<std::uint8_t>& planar) {
    for (std::size_t n = 0; n < 2; ++n)
        for (std::size_t y = 0; y < in.height; ++y)
            for (std::size_t x = 0; x < row_bytes / 3; ++x)
                for (std::size_t c = 0; c < 3; ++c) {
                    const int wanted = x < in.width ? in.at(n, y, x, c) : 99;
                    CHECK(rgb[(n * in.height + y) * row_bytes + 3 * x + c] == wanted);
                    CHECK(planar[((n * 3 + c) * in.height + y) * row_bytes + x] == wanted);
                }
}

/// Against BT.709 in double precision.
void check_nv12(const Stored& in, std::size_t row_bytes, const std::vector<std::uint8_t>& nv12) {
    const std::size_t chroma_rows = (in.height + 1) / 2;
    const auto luma = [&](std::size_t n, std::size_t y, std::size_t x) {
        return 0.2126 * in.at(n, y, x, 0) + 0.7152 * in.at(n, y, x, 1) + 0.0722 * in.at(n, y, x, 2);
    };
    const auto near = [](std::uint8_t got, double wanted) { return std::abs(got - wanted) <= 0.5 + 0.005; };
    for (std::size_t n = 0; n < 2; ++n) {
        const std::uint8_t* const rows = &nv12[n * (in.height + chroma_rows) * row_bytes];
        for (std::size_t y = 0; y < in.height; ++y)
            for (std::size_t x = 0; x < (in.width + 1) / 2 * 2; ++x)  // at an odd edge the last pixel twice
                CHECK(near(rows[y * row_bytes + x], 16 + luma(n, y, x) * 219 / 255));
        for (std::size_t y = 0; y < in.height; y += 2)
            for (std::size_t x = 0; x < in.width; x += 2) {
                double cb = 0, cr = 0;
                for (std::size_t i = 0; i < 4; ++i) {
                    const std::size_t v = y + i / 2, u = x + i % 2;
                    cb += (in.at(n, v, u, 2) - luma(n, v, u)) / 1.8556 * 224 / 255 / 4;
                    cr += (in.at(n, v, u, 0) - luma(n, v, u)) / 1.5748 * 224 / 255 / 4;
                }
                const std::uint8_t* const pair = rows + (in.height + y / 2) * row_bytes + x;
                CHECK(near(pair[0], 128 + cb) && near(pair[1], 128 + cr));
            }
        for (std::size_t y = 0; y < in.height + chroma_rows; ++y)
            for (std::size_t x = in.width + in.width % 2; x < row_bytes; ++x)
                CHECK(rows[y * row_bytes + x] == 99);
    }
}

void stores() {
    const auto queue = make_queue();
    Stored in{std::vector<std::uint8_t>(2 * 13 * 16 * 3), 0, 0};
    for (auto& byte : in.picture)
        byte = static_cast<std::uint8_t>(random_int(0, 3) == 0 ? 255 * random_int(0, 1) : random_int(0, 255));
    const device::Pictures pictures{in.picture.data(), 2, 13, 16};
    const auto store = [&](device::PictureFormat format, std::size_t rows, std::size_t row_bytes) {
        std::vector<std::uint8_t> out(2 * rows * row_bytes, 99);
        CHECK(device::store(*queue, pictures, in.height, in.width, format, {out.data(), row_bytes}).ok());
        return out;
    };
    using Format = device::PictureFormat;
    for (in.height = 11; in.height <= 13; ++in.height)
        for (in.width = 1; in.width <= 16; ++in.width)
            for (const std::size_t spare : {0u, 3u, 9u}) {
                const std::size_t row_bytes = 3 * in.width + spare;
                check_planes(in, row_bytes, store(Format::rgb, in.height, row_bytes),
                             store(Format::planar, 3 * in.height, row_bytes));
                check_nv12(in, row_bytes, store(Format::nv12, in.height + (in.height + 1) / 2, row_bytes));
            }
    const auto code = [&](std::uint32_t height, std::uint32_t width, Format format, std::size_t row_bytes) {
        return device::store(*queue, pictures, height, width, format, {nullptr, row_bytes}).code();
    };
    CHECK(code(14, 16, Format::rgb, 48) == Code::invalid_argument);
    CHECK(code(13, 17, Format::rgb, 51) == Code::invalid_argument);
    CHECK(code(13, 16, Format::rgb, 47) == Code::invalid_argument);
    CHECK(code(13, 15, Format::nv12, 15) == Code::invalid_argument);
    CHECK(code(0, 16, Format::planar, 16) == Code::invalid_argument);
}

/// Grey has no colour, black and white are the ends of the limited range.
void grey_stays_grey() {
    const auto queue = make_queue();
    for (int value = 0; value < 256; ++value) {
        const std::vector<std::uint8_t> picture(12, static_cast<std::uint8_t>(value));
        std::vector<std::uint8_t> out(6);
        CHECK(device::store(*queue, {picture.data(), 1, 2, 2}, 2, 2, device::PictureFormat::nv12,
                            {out.data(), 2})
                  .ok());
        CHECK(out[4] == 128 && out[5] == 128);
        CHECK(value != 0 || out[0] == 16);
        CHECK(value != 255 || out[0] == 235);
    }
}

}  // namespace

int main() {
    crops();
    stores();
    grey_stays_grey();
}
