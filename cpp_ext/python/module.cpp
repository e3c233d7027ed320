#include "bindings.hpp"

NB_MODULE(_core, module) {
    module.doc() = "The C++ core of nicrt: entropy coder, streams and container (cpp_ext/FORMAT.md).";
    nicrt::python::register_segment(module);
    nicrt::python::register_container(module);
    nicrt::python::register_stream(module);
    nicrt::python::register_native(module);
    nicrt::python::register_integer_network(module);
#ifdef NICRT_ONNX
    nicrt::python::register_onnx(module);
#endif
}
