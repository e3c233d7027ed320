// Values of constant tensors.
#pragma once

#include <cstdint>

#include "bytes.hpp"
#include "nicrt/onnx.hpp"

namespace nicrt::onnx {

template <class T, class Holds>
bool all_as(const Tensor& tensor, const Holds& holds) {
    for (std::size_t at = 0; at < tensor.data.size(); at += sizeof(T))
        if (!holds(load_le<T>(tensor.data.data() + at))) return false;
    return true;
}

/// Whether all values of a tensor of integers have a property; false for other types.
template <class Holds>
bool all_integers(const Tensor& tensor, const Holds& holds) {
    switch (tensor.element) {
        case Element::uint8: return all_as<std::uint8_t>(tensor, holds);
        case Element::int8: return all_as<std::int8_t>(tensor, holds);
        case Element::uint16: return all_as<std::uint16_t>(tensor, holds);
        case Element::int16: return all_as<std::int16_t>(tensor, holds);
        case Element::uint32: return all_as<std::uint32_t>(tensor, holds);
        case Element::int32: return all_as<std::int32_t>(tensor, holds);
        case Element::uint64: return all_as<std::uint64_t>(tensor, holds);
        case Element::int64: return all_as<std::int64_t>(tensor, holds);
        default: return false;
    }
}

}  // namespace nicrt::onnx
