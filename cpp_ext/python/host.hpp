// Python in the place of a backend, and Python's exceptions on their way through the engine.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string_view>
#include <thread>

#include "arrays.hpp"

namespace nicrt::python {

/// Calls function() -> Status, which calls Python, from a thread without the GIL. What Python raises becomes
/// a status, and is remembered for `raise_python_or`.
Status call_python(const std::function<void()>& function);

/// Ends work when a signal's handler raises, as Ctrl-C does. Of work that this thread has called for.
class Signals final : public Control {
public:
    Signals() : looked_(Clock::now()) {}

private:
    [[nodiscard]] bool wants_end() const override;

    const std::thread::id thread_ = std::this_thread::get_id();
    mutable Clock::time_point looked_;  ///< by this thread alone
    mutable std::atomic<bool> raised_{false};
};

/// Raises what Python has raised on the way, where that is why the status is what it is; else as
/// `raise_if_error`.
void raise_python_or(const Status& status);

/// Runs work() -> Status without the GIL, then raises what it returned, or what Python has raised inside.
template <class Function>
void with_python(Function&& work) {
    raise_python_or(released(work));
}

/// A Python object with `name`, `identity()` and `load(graph's name)`, which gives an object with
/// `run(inputs, outputs)`.
[[nodiscard]] std::shared_ptr<const engine::Backend> backend_of(nb::object backend);

/// The Python object that runs a graph, None for one of the core's own.
[[nodiscard]] nb::object python_of(const engine::Executable& executable);

}  // namespace nicrt::python
