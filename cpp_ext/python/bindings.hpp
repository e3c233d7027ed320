// The parts of nicrt._core, each registering its classes and functions.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "nicrt/bundle.hpp"
#include "nicrt/codebook.hpp"
#include "nicrt/container.hpp"

namespace nicrt::python {

/// nicrt._core.Bundle
struct PyBundle {
    std::shared_ptr<const bundle::Bundle> bundle;
};

/// nicrt._core.Codebook
struct PyCodebook {
    std::shared_ptr<const Codebook> tables;
};

/// nicrt._core.File
struct PyFile {
    std::shared_ptr<const File> file;
};

/// nicrt._core.Stream: part of a parsed file, which it keeps alive, or a window of such a part.
struct PyStream {
    std::shared_ptr<const Stream> stream;
};

void register_bundle(nanobind::module_& module);
void register_engine(nanobind::module_& module);
void register_execution(nanobind::module_& module);
void register_segment(nanobind::module_& module);
void register_container(nanobind::module_& module);
void register_stream(nanobind::module_& module);
void register_native(nanobind::module_& module);
void register_native_graph(nanobind::module_& module);
void register_integer_network(nanobind::module_& module);
void register_program(nanobind::module_& module);
void register_onnx(nanobind::module_& module);

}  // namespace nicrt::python
