#include "engine/rectangles.hpp"

#include <cstring>

namespace nicrt::engine {
namespace {

using program::Part;
using program::Rect;
using program::Tensor;

/// Where a row or a column of places begins.
struct Corner {
    std::int64_t row = 0, column = 0;
};

Corner corner_of(const Tensor& tensor, const Rect& rect, const Rect& whole) {
    return {(rect.top - whole.top) / tensor.stride, (rect.left - whole.left) / tensor.stride};
}

/// Copies so many rows and columns, along the tensor's spatial dimensions, of all the others.
void copy(const Tensor& tensor, const Array& from, Corner from_corner, const Array& to, Corner to_corner,
          std::int64_t rows, std::int64_t columns) {
    const std::size_t row_axis = tensor.axes[0], column_axis = tensor.axes[1];
    std::int64_t outer = 1, between = 1;
    auto place_bytes = static_cast<std::int64_t>(bundle::bytes_of(from.dtype));
    for (std::size_t axis = 0; axis < from.shape.size(); ++axis) {
        if (axis < row_axis) outer *= from.shape[axis];
        else if (axis > row_axis && axis < column_axis) between *= from.shape[axis];
        else if (axis > column_axis) place_bytes *= from.shape[axis];
    }
    const auto place = [&](const Array& array, Corner corner, std::int64_t i, std::int64_t row,
                           std::int64_t j) {
        const std::int64_t line = (i * array.shape[row_axis] + corner.row + row) * between + j;
        return array.data + (line * array.shape[column_axis] + corner.column) * place_bytes;
    };
    for (std::int64_t i = 0; i < outer; ++i)
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t j = 0; j < between; ++j)
                std::memcpy(place(to, to_corner, i, row, j), place(from, from_corner, i, row, j),
                            static_cast<std::size_t>(columns * place_bytes));
}

}  // namespace

Status read_part(const Tensor& tensor, const Array& array, const Rect& rect, Budget* budget, Array& out) {
    const std::vector<std::int64_t> shape = program::shape_on(tensor, rect);
    if (shape == array.shape) {
        out = array;
        return {};
    }
    NICRT_RETURN_IF_ERROR(Array::make(array.dtype, shape, budget, out));
    const Part part = program::part_of(tensor, rect);
    copy(tensor, array, {part.first_row, part.first_column}, out, {}, part.rows, part.columns);
    return {};
}

Status crop(const Tensor& tensor, const Array& array, const Rect& whole, const Rect& rect, Budget* budget,
            Array& out) {
    if (tensor.stride == 0 || whole == rect) {
        out = array;
        return {};
    }
    NICRT_RETURN_IF_ERROR(Array::make(array.dtype, program::shape_covering(tensor, rect), budget, out));
    copy(tensor, array, corner_of(tensor, rect, whole), out, {}, rect.height() / tensor.stride,
         rect.width() / tensor.stride);
    return {};
}

void paste(const Tensor& tensor, const Array& part, const Rect& rect, const Array& array, const Rect& whole) {
    copy(tensor, part, {}, array, corner_of(tensor, rect, whole), rect.height() / tensor.stride,
         rect.width() / tensor.stride);
}

}  // namespace nicrt::engine
