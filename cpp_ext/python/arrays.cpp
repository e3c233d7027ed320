#include "arrays.hpp"

#include <array>
#include <string>
#include <vector>

namespace nicrt::python {
namespace {

using bundle::Element;

constexpr std::array kElements{Element::float32, Element::float16, Element::int64,  Element::int32,
                               Element::int16,   Element::int8,    Element::uint16, Element::uint8};

}  // namespace

nb::dlpack::dtype type_of(Element element) {
    const auto bits = static_cast<std::uint8_t>(8 * bundle::bytes_of(element));
    switch (element) {
        case Element::float32:
        case Element::float16: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), bits, 1};
        case Element::uint16:
        case Element::uint8: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::UInt), bits, 1};
        default: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Int), bits, 1};
    }
}

namespace {

nb::object view(const engine::Array& array, std::uint8_t* data, std::span<const std::size_t> shape,
                const std::int64_t* strides, bool writable) {
    auto* const kept = new std::shared_ptr<void>(array.keeper);
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::shared_ptr<void>*>(p); });
    const nb::dlpack::dtype type = type_of(array.dtype);
    if (writable)
        return nb::cast(nb::ndarray<nb::numpy>(data, shape.size(), shape.data(), owner, strides, type));
    return nb::cast(nb::ndarray<nb::numpy, nb::ro>(data, shape.size(), shape.data(), owner, strides, type));
}

}  // namespace

nb::object to_numpy(const engine::Array& array, bool writable) {
    const std::vector<std::size_t> shape(array.shape.begin(), array.shape.end());
    return view(array, array.data, shape, nullptr, writable);
}

nb::object to_numpy(const engine::Array& array, const program::Tensor& tensor, const program::Part& part,
                    bool writable) {
    std::vector<std::size_t> shape(array.shape.begin(), array.shape.end());
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t axis = shape.size() - 1; axis > 0; --axis)
        strides[axis - 1] = strides[axis] * array.shape[axis];
    const auto& [rows, columns] = tensor.axes;
    shape[rows] = static_cast<std::size_t>(part.rows);
    shape[columns] = static_cast<std::size_t>(part.columns);
    const std::int64_t first = part.first_row * strides[rows] + part.first_column * strides[columns];
    return view(array, array.data + first * static_cast<std::int64_t>(bundle::bytes_of(array.dtype)), shape,
                strides.data(), writable);
}

engine::Array from_numpy(nb::handle object) {
    using Any = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
    auto kept = std::make_shared<Any>();
    if (!nb::try_cast(object, *kept, false)) {
        const nb::object dense = nb::module_::import_("numpy").attr("ascontiguousarray")(object);
        if (!nb::try_cast(dense, *kept, false)) throw nb::type_error("not an array of numbers");
    }
    engine::Array array;
    bool known = false;
    for (const Element element : kElements)
        if (kept->dtype() == type_of(element)) {
            array.dtype = element;
            known = true;
        }
    if (!known) throw nb::type_error("an array of values of a type that graphs do not have");
    for (std::size_t axis = 0; axis < kept->ndim(); ++axis)
        array.shape.push_back(static_cast<std::int64_t>(kept->shape(axis)));
    array.data = static_cast<std::uint8_t*>(const_cast<void*>(static_cast<const void*>(kept->data())));
    // An ndarray lets go of Python's object without asking whether this thread may.
    array.keeper = std::shared_ptr<void>(array.data, [kept](void*) mutable {
        if (!Py_IsInitialized()) return;
        const Gil gil;
        kept.reset();
    });
    return array;
}

}  // namespace nicrt::python
