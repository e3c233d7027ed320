#include <exception>
#include <new>
#include <stdexcept>

#include "bindings.hpp"
#include "convert.hpp"
#include "nicrt/segment.hpp"

namespace {

void set_memory_error() {
    try {
        nicrt::python::set_error(nicrt::out_of_memory());
    } catch (nanobind::python_error& error) {  // not even memory for that: Python's MemoryError
        error.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
}

/// Memory that could not be had, or a container larger than any can be, is nicrt's LimitError in every
/// function of nicrt's modules: they are a nanobind domain of their own, so no other extension's errors come
/// here.
void translate_memory_errors(const std::exception_ptr& error, void*) {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        set_memory_error();
    } catch (const std::length_error&) {
        set_memory_error();
    }
}

}  // namespace

NB_MODULE(_core, module) {
    module.doc() = "The C++ core of nicrt: entropy coder, streams and container (docs/FORMAT.md).";
    // What threads that a host leaves running hold at the interpreter's end is no leak.
    nanobind::set_leak_warnings(false);
    module.def(
        "check_isa_variable", [] { nicrt::python::raise_if_error(nicrt::check_isa_variable()); },
        "Raises ValueError where the environment variable NICRT_ISA names no instruction set.");
    nanobind::register_exception_translator(&translate_memory_errors);
    nicrt::python::register_bundle(module);
    nicrt::python::register_segment(module);
    nicrt::python::register_container(module);
    nicrt::python::register_stream(module);
    nicrt::python::register_engine(module);
    nicrt::python::register_execution(module);
    nicrt::python::register_native(module);
    nicrt::python::register_native_graph(module);
    nicrt::python::register_integer_network(module);
    nicrt::python::register_program(module);
#ifdef NICRT_ONNX
    nicrt::python::register_onnx(module);
#endif
}
