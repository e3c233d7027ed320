// Between Python objects and what the library takes: buffers, arrays, errors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nicrt/status.hpp"

namespace nicrt::python {

namespace nb = nanobind;

/// Arrays are taken as they are: a wrong dtype, order or device is a TypeError, never a silent copy.
template <class Scalar, class... Dims>
using Array = nb::ndarray<Scalar, nb::c_contig, nb::device::cpu, Dims...>;

/// Raises the Python exception for a status that is not ok; the exception tree is nicrt.runtime.errors.
inline void raise_if_error(const Status& status) {
    if (status.ok()) return;
    const nb::object from_status = nb::module_::import_("nicrt.runtime.errors").attr("from_status");
    const nb::object error = from_status(static_cast<int>(status.code()), status.message());
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
    throw nb::python_error();
}

/// Runs work() -> Status without the GIL, then raises what it returned.
template <class Work>
void without_gil(Work&& work) {
    Status status;
    {
        const nb::gil_scoped_release released;
        status = work();
    }
    raise_if_error(status);
}

inline void require(bool condition, const std::string& message) {
    if (!condition) throw nb::value_error(message.c_str());
}

/// The bytes of any contiguous object of the buffer protocol, for as long as this lives. Needs the GIL at
/// both ends.
class Buffer {
public:
    explicit Buffer(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    [[nodiscard]] std::span<const std::uint8_t> bytes() const {
        return {static_cast<const std::uint8_t*>(view_.buf), static_cast<std::size_t>(view_.len)};
    }

private:
    Py_buffer view_{};
};

inline nb::bytes to_bytes(std::span<const std::uint8_t> data) { return nb::bytes(data.data(), data.size()); }

/// A new numpy array whose places hold nothing yet.
template <class Scalar, std::size_t Rank>
auto new_array(const std::size_t (&shape)[Rank]) {
    std::size_t places = 1;
    for (const std::size_t extent : shape) places *= extent;
    auto memory = std::make_unique_for_overwrite<Scalar[]>(places);
    Scalar* const data = memory.get();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<Scalar*>(p); });
    memory.release();
    return Array<Scalar, nb::numpy, nb::ndim<Rank>>(data, Rank, shape, owner);
}

}  // namespace nicrt::python
