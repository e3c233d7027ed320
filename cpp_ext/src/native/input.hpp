// The affine combination of tensors that a chain begins with.
#pragma once

#include <cstddef>

#include "kernels.hpp"
#include "nicrt/native.hpp"

namespace nicrt::native {

/// `rows` rows of channel c of the affine combination, one behind the other.
inline void combine(const Kernels& kernels, const Input& input, std::size_t c, std::size_t row,
                    std::size_t rows, float* to) {
    const std::size_t count = rows * input.width, from = (c * input.height + row) * input.width;
    bool more = false;
    for (const Term& term : input.terms) {
        if (term.integers != nullptr)
            kernels.scale_integers(term.integers + from, count, term.scale[c], input.offset[c], more, to);
        else kernels.scale_floats(term.floats + from, count, term.scale[c], input.offset[c], more, to);
        more = true;
    }
}

}  // namespace nicrt::native
