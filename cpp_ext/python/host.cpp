#include "host.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nicrt::python {
namespace {

/// What Python raised in a callback of this thread, and the status that stands for it.
struct Raised {
    Status status;
    nb::python_error error;
};
thread_local std::unique_ptr<Raised> raised;

Code code_of(nb::handle error) {
    static constexpr std::array<std::pair<const char*, Code>, 7> kErrors{
        {{"TruncatedError", Code::truncated},
         {"CorruptError", Code::corrupt},
         {"UnsupportedError", Code::unsupported},
         {"LimitError", Code::limit},
         {"WrongBundleError", Code::wrong_bundle},
         {"InternalError", Code::internal},
         {"CancelledError", Code::cancelled}}};
    const nb::module_ errors = nb::module_::import_("nicrt.runtime.errors");
    for (const auto& [name, code] : kErrors)
        if (PyObject_IsInstance(error.ptr(), errors.attr(name).ptr()) == 1) return code;
    return PyErr_GivenExceptionMatches(error.ptr(), PyExc_MemoryError) != 0 ? Code::limit : Code::internal;
}

/// A path in it need not be UTF-8.
std::string text_of(nb::handle error) {
    const nb::str text(error);
    const auto bytes =
        nb::steal<nb::bytes>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogateescape"));
    if (bytes.is_valid()) return {bytes.c_str(), bytes.size()};
    PyErr_Clear();
    return "an error of a backend";
}

bool is_other_kind() {
    const nb::object other = nb::module_::import_("nicrt.runtime.backends.base").attr("OtherKindError");
    return raised != nullptr && PyObject_IsInstance(raised->error.value().ptr(), other.ptr()) == 1;
}

class PythonExecutable final : public engine::Executable {
public:
    explicit PythonExecutable(nb::object object)
        : workspace_(
              nb::cast<std::optional<double>>(nb::getattr(object, "workspace_bytes_per_pixel", nb::none()))),
          object_(std::move(object)) {}

    [[nodiscard]] std::optional<double> workspace_bytes_per_pixel() const override { return workspace_; }

    Status run(std::span<const engine::Named> inputs, std::span<engine::Named> outputs,
               const Work& work) const override {
        NICRT_RETURN_IF_ERROR(call_python([&] { call(inputs, outputs, work.control); }));
        for (engine::Named& output : outputs) NICRT_RETURN_IF_ERROR(output.array.charge(work.budget));
        return {};
    }

    [[nodiscard]] nb::handle get() const { return object_.get(); }

private:
    void call(std::span<const engine::Named> inputs, std::span<engine::Named> outputs,
              const Control* control) const {
        nb::dict arrays;
        for (const engine::Named& input : inputs)
            arrays[nb::str(input.port.data(), input.port.size())] = to_numpy(input.array);
        nb::list names;
        for (const engine::Named& output : outputs)
            names.append(nb::str(output.port.data(), output.port.size()));
        const nb::object results = run_within(arrays, names, control);
        if (nb::len(results) != outputs.size())
            throw nb::value_error("a graph gave another number of outputs");
        for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].array = from_numpy(results[i]);
    }

    /// Where there is a deadline, an object that can be stopped is.
    [[nodiscard]] nb::object run_within(const nb::dict& arrays, const nb::list& names,
                                        const Control* control) const {
        const auto deadline = control == nullptr ? std::nullopt : control->deadline();
        if (!deadline || !nb::hasattr(object_.get(), "run_within"))
            return object_.get().attr("run")(arrays, names);
        const std::chrono::duration<double> left = *deadline - Control::Clock::now();
        return object_.get().attr("run_within")(std::max(left.count(), 0.0), arrays, names);
    }

    std::optional<double> workspace_;
    Kept object_;
};

}  // namespace

bool Signals::wants_end() const {
    constexpr std::chrono::milliseconds kBetweenLooks{20};
    if (raised_.load(std::memory_order_relaxed)) return true;
    if (std::this_thread::get_id() != thread_) return false;
    const auto now = Clock::now();
    if (now - looked_ < kBetweenLooks) return false;
    looked_ = now;
    const Status status = call_python([] {
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    });
    if (status.ok()) return false;
    raised->status = {Code::cancelled, "cancelled"};  // as `Control::check` says it
    raised_.store(true, std::memory_order_relaxed);
    return true;
}

Status call_python(const std::function<void()>& function) {
    const Gil gil;
    try {
        try {
            function();
            return {};
        } catch (const nb::builtin_exception& error) {  // TypeError and the like, thrown by the binding
            PyErr_SetString(
                error.type() == nb::exception_type::value_error ? PyExc_ValueError : PyExc_TypeError,
                error.what());
            throw nb::python_error();
        }
    } catch (nb::python_error& error) {
        const Code code = code_of(error.value());
        Status status{code, text_of(error.value())};
        raised = std::make_unique<Raised>(Raised{status, std::move(error)});
        return status;
    }
}

void raise_python_or(const Status& status) {
    const auto last = std::move(raised);
    if (status.ok()) return;
    if (last != nullptr && last->status.code() == status.code() &&
        last->status.message() == status.message()) {
        nb::python_error error = std::move(last->error);
        throw error;
    }
    raise_if_error(status);
}

std::shared_ptr<const engine::Backend> backend_of(nb::object backend) {
    engine::Callbacks callbacks;
    callbacks.name = nb::cast<std::string>(backend.attr("name"));
    callbacks.proves = true;
    const auto kept = std::make_shared<Kept>(std::move(backend));
    callbacks.identity = [kept] {
        std::string identity;
        (void)call_python([&] { identity = nb::cast<std::string>(kept->get().attr("identity")()); });
        return identity;
    };
    callbacks.load = [kept](std::string_view graph, std::shared_ptr<const engine::Executable>& out,
                            bool& other_kind) {
        const Status status = call_python([&] {
            const nb::object loaded = kept->get().attr("load")(nb::str(graph.data(), graph.size()));
            out = std::make_shared<PythonExecutable>(loaded);
        });
        if (status.code() == Code::unsupported) {
            const Gil gil;
            other_kind = is_other_kind();
            raised.reset();
        }
        return status;
    };
    return engine::make_callback_backend(std::move(callbacks));
}

nb::object python_of(const engine::Executable& executable) {
    const auto* const python = dynamic_cast<const PythonExecutable*>(&executable);
    return python == nullptr ? nb::none() : nb::borrow(python->get());
}

}  // namespace nicrt::python
