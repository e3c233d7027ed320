// Between Python objects and what the library takes: buffers, arrays, errors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <string>
#include <thread>

#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace nicrt::python {

namespace nb = nanobind;

/// Arrays are taken as they are: a wrong dtype, order or device is a TypeError, never a silent copy.
template <class Scalar, class... Dims>
using Array = nb::ndarray<Scalar, nb::c_contig, nb::device::cpu, Dims...>;

/// Sets the Python exception for a status that is not ok; the exception tree is nicrt.runtime.errors.
inline void set_error(const Status& status) {
    const nb::object from_status = nb::module_::import_("nicrt.runtime.errors").attr("from_status");
    // A path in it may be any bytes: those that are no UTF-8 come out as in other paths of Python.
    const std::string& text = status.message();
    const auto message = nb::steal<nb::object>(
        PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape"));
    if (!message.is_valid()) throw nb::python_error();
    const nb::object error = from_status(static_cast<int>(status.code()), message);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
}

/// Raises the Python exception for a status that is not ok.
inline void raise_if_error(const Status& status) {
    if (status.ok()) return;
    set_error(status);
    throw nb::python_error();
}

/// Takes the GIL back. Once the interpreter is at its end, CPython before 3.14 ends the thread instead, by
/// unwinding its stack, which neither destructors nor nanobind let through: the thread waits here, and the
/// process ends without it.
inline void take_gil(PyThreadState* state) {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

/// The result of work() without the GIL.
template <class Function>
auto released(Function&& work) {
    PyThreadState* const state = PyEval_SaveThread();
    try {
        auto result = work();
        take_gil(state);
        return result;
    } catch (...) {
        take_gil(state);
        throw;
    }
}

/// Runs work() -> Status without the GIL, then raises what it returned.
template <class Function>
void without_gil(Function&& work) {
    raise_if_error(released(work));
}

inline void require(bool condition, const std::string& message) {
    if (!condition) throw nb::value_error(message.c_str());
}

/// Work on so many threads of the process.
inline Work on_threads(unsigned threads) {
    require(threads >= 1 && threads <= kMaxThreads,
            std::to_string(threads) + " threads; 1 to " + std::to_string(kMaxThreads) + " are possible");
    return {&process_pool(), threads};
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

inline nb::bytes to_bytes(std::span<const std::uint8_t> data) {
    PyObject* const bytes = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()),
                                                      static_cast<Py_ssize_t>(data.size()));
    if (bytes == nullptr) {  // Python's MemoryError: here it is the same failure as C++'s own
        PyErr_Clear();
        throw std::bad_alloc();
    }
    return nb::steal<nb::bytes>(bytes);
}

/// Memory for `std::free`. Large blocks ask for huge pages: with small ones, the first touch of a large
/// picture's tensors costs a tenth of its decoding.
inline void* allocate(std::size_t bytes) {
    constexpr std::size_t huge_page = std::size_t{1} << 21;
    void* memory = nullptr;
    if (bytes < 2 * huge_page) {
        memory = std::malloc(std::max<std::size_t>(bytes, 1));
    } else {
        memory = std::aligned_alloc(huge_page, (bytes + huge_page - 1) / huge_page * huge_page);
#ifdef MADV_HUGEPAGE
        if (memory != nullptr) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    }
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

/// A new numpy array whose places hold nothing yet.
template <class Scalar, std::size_t Rank>
auto new_array(const std::size_t (&shape)[Rank]) {
    std::size_t places = 1;
    for (const std::size_t extent : shape) {
        if (extent > 0 && places > SIZE_MAX / sizeof(Scalar) / extent) throw std::bad_array_new_length();
        places *= extent;
    }
    auto* const data = static_cast<Scalar*>(allocate(places * sizeof(Scalar)));
    nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
    return Array<Scalar, nb::numpy, nb::ndim<Rank>>(data, Rank, shape, owner);
}

}  // namespace nicrt::python
