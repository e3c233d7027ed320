// A transposed convolution by its definition, for the tests of the kernels.
#pragma once

#include <cstddef>
#include <vector>

/// Adds to out [layer.out, height * stride, width * stride] what every input place adds to the places that
/// its taps fall on.
template <class Layer, class Value>
void add_by_definition(const Layer& layer, const std::vector<Value>& in, std::size_t height,
                       std::size_t width, std::vector<Value>& out) {
    const std::size_t rows = height * layer.y.stride, columns = width * layer.x.stride;
    for (std::size_t c = 0; c < layer.in; ++c)
        for (std::size_t m = 0; m < layer.out; ++m)
            for (std::size_t i = 0; i < height * width; ++i)
                for (std::size_t t = 0; t < layer.y.kernel * layer.x.kernel; ++t) {
                    // unsigned: what lies before the first place is beyond the last one
                    const std::size_t row = i / width * layer.y.stride + t / layer.x.kernel - layer.y.pad;
                    const std::size_t column = i % width * layer.x.stride + t % layer.x.kernel - layer.x.pad;
                    if (row >= rows || column >= columns) continue;
                    const std::size_t place = (c * layer.out + m) * layer.y.kernel * layer.x.kernel + t;
                    out[(m * rows + row) * columns + column] +=
                        layer.weights[place] * in[c * height * width + i];
                }
}
