// Between numpy arrays and the engine's.
#pragma once

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "convert.hpp"
#include "nicrt/engine.hpp"

namespace nicrt::python {

/// The GIL, on a thread that has given it back. Waits for ever once the interpreter is at its end, as
/// `take_gil` does.
class Gil {
public:
    Gil() {
        try {
            state_ = PyGILState_Ensure();
        } catch (...) {
            while (true) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
    Gil(const Gil&) = delete;
    Gil& operator=(const Gil&) = delete;
    ~Gil() { PyGILState_Release(state_); }

private:
    PyGILState_STATE state_{};
};

/// A Python object that may be let go of by any thread.
class Kept {
public:
    explicit Kept(nb::object object) : object_(std::move(object)) {}
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    ~Kept() {
        if (Py_IsInitialized()) {
            const Gil gil;
            object_.reset();
        } else {
            object_.release();
        }
    }
    [[nodiscard]] nb::handle get() const { return object_; }

private:
    nb::object object_;
};

[[nodiscard]] nb::dlpack::dtype type_of(bundle::Element element);

/// A numpy array of the same memory.
[[nodiscard]] nb::object to_numpy(const engine::Array& array, bool writable = false);

/// The same, of the places from a row and a column on alone.
[[nodiscard]] nb::object to_numpy(const engine::Array& array, const program::Tensor& tensor,
                                  const program::Part& part, bool writable);

/// An array of the memory of a numpy array; of a copy, where that has gaps. Raises TypeError for other
/// objects, and for types of values that graphs do not have.
[[nodiscard]] engine::Array from_numpy(nb::handle object);

}  // namespace nicrt::python
