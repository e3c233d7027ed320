// The classes that run programs for Python.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "bindings.hpp"
#include "host.hpp"
#include "nicrt/engine.hpp"
#include "program.hpp"

namespace nicrt::python {

/// nicrt._core.Opened
struct PyOpened {
    std::shared_ptr<const bundle::Bundle> bundle;
    std::shared_ptr<const File> file;
    program::Opened opened;
};

/// nicrt._core.Memo. budget: of what it keeps, and of the executions that use it.
struct PyMemo {
    std::shared_ptr<Budget> budget;
    std::shared_ptr<engine::Memo> memo;
};

/// nicrt._core.Coded
struct PyCoded {
    engine::Coded coded;
    std::shared_ptr<const bundle::Bundle> bundle;
    unsigned threads;
    bool writable = false;  ///< nobody else looks at the symbols again
};

/// nicrt._core.NativeBackend
struct PyBackend {
    std::shared_ptr<const engine::Backend> backend;
};

/// nicrt._core.Engine
class PyEngine {
public:
    PyEngine(const PyBundle& bundle, const std::vector<nb::object>& backends, unsigned threads,
             std::uint64_t memory_bytes, double load_seconds);

    [[nodiscard]] const std::shared_ptr<const bundle::Bundle>& bundle() const { return graphs->bundle(); }
    [[nodiscard]] Work work(const Control* control, Budget* budget = nullptr) const {
        return {&process_pool(), threads, control, budget};
    }

    std::shared_ptr<engine::Graphs> graphs;
    std::shared_ptr<engine::Plans> plans;
    unsigned threads;
    std::uint64_t memory_bytes;
    std::int32_t window_edge = 0;
};

}  // namespace nicrt::python
