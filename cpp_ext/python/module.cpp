#include <exception>
#include <new>
#include <stdexcept>

#include "bindings.hpp"
#include "convert.hpp"

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
    nanobind::register_exception_translator(&translate_memory_errors);
    nicrt::python::register_bundle(module);
    nicrt::python::register_segment(module);
    nicrt::python::register_container(module);
    nicrt::python::register_stream(module);
    nicrt::python::register_native(module);
    nicrt::python::register_integer_network(module);
#ifdef NICRT_ONNX
    nicrt::python::register_onnx(module);
#endif
}
