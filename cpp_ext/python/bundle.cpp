// Codec bundles.
#include "nicrt/bundle.hpp"

#include <nanobind/stl/string_view.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using bundle::Element;

/// nicrt._core.Bundle
struct PyBundle {
    std::shared_ptr<const bundle::Bundle> bundle;
};

#if defined(__unix__) || defined(__APPLE__)
PyBundle open(const std::string& path) {
    PyBundle result;
    without_gil([&] { return bundle::Bundle::open_path(path, result.bundle); });
    return result;
}
#endif

PyBundle of_bytes(nb::bytes data) {
    const auto* const bytes = static_cast<const std::uint8_t*>(data.data());
    const auto keeper = std::make_shared<std::vector<std::uint8_t>>(bytes, bytes + data.size());
    PyBundle result;
    without_gil(
        [&] { return bundle::Bundle::open_packed(bundle::memory_source(*keeper, keeper), result.bundle); });
    return result;
}

nb::bytes manifest_of(const PyBundle& self) {
    std::string text;
    without_gil([&] { return bundle::write(self.bundle->manifest(), text); });
    return nb::bytes(text.data(), text.size());
}

nb::bytes onnx_of(const PyBundle& self, std::string_view graph) {
    std::vector<std::uint8_t> model;
    without_gil([&] { return self.bundle->onnx(graph, model); });
    return to_bytes(model);
}

nb::dlpack::dtype type_of(Element element) {
    const auto bits = static_cast<std::uint8_t>(8 * bundle::bytes_of(element));
    switch (element) {
        case Element::float32:
        case Element::float16: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), bits, 1};
        case Element::uint16:
        case Element::uint8: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::UInt), bits, 1};
        default: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Int), bits, 1};
    }
}

nb::object array_of(bundle::Tensor tensor) {
    const std::vector<std::size_t> shape(tensor.shape.begin(), tensor.shape.end());
    auto* const data = new std::vector<std::uint8_t>(std::move(tensor.data));
    nb::capsule owner(data, [](void* p) noexcept { delete static_cast<std::vector<std::uint8_t>*>(p); });
    return nb::cast(nb::ndarray<nb::numpy>(data->data(), shape.size(), shape.data(), owner, nullptr,
                                           type_of(tensor.dtype)));
}

nb::dict weights_of(const PyBundle& self, std::string_view graph) {
    std::vector<bundle::Tensor> tensors;
    without_gil([&] { return self.bundle->weights(graph, tensors); });
    nb::dict result;
    for (bundle::Tensor& tensor : tensors) {
        const std::string_view name = tensor.name;
        result[nb::cast(name)] = array_of(std::move(tensor));
    }
    return result;
}

nb::object card_of(const PyBundle& self) {
    std::string text;
    without_gil([&] { return self.bundle->card(text); });
    if (!self.bundle->manifest().card) return nb::none();
    return nb::cast(text);
}

}  // namespace

void register_bundle(nb::module_& module) {
    nb::class_<PyBundle>(module, "Bundle", "A codec bundle whose manifest, tables and ids have been checked.")
#if defined(__unix__) || defined(__APPLE__)
        .def_static(
            "open", &open, "path"_a,
            "The bundle in a folder or a packed file. Raises UnsupportedError for what is none, or wrong.")
#endif
        .def_static("of_bytes", &of_bytes, "data"_a, "A packed bundle in memory. Raises as `open` does.")
        .def_prop_ro("manifest", &manifest_of,
                     "The manifest, written again from what was read and checked: JSON.")
        .def(
            "graph_hash",
            [](const PyBundle& self, std::string_view graph) { return self.bundle->graph_hash(graph); },
            "graph"_a, "Hex SHA-256 over what a graph computes.")
        .def("onnx", &onnx_of, "graph"_a, "The ONNX model of a graph, its hash checked, written again.")
        .def("weights", &weights_of, "graph"_a,
             "What a native form uses of the stored tensors, hashes checked.")
        .def("card", &card_of, "The model card; None where there is none.")
        .def(
            "check_parts",
            [](const PyBundle& self) { without_gil([&] { return self.bundle->check_parts(); }); },
            "Reads every part.");
}

}  // namespace nicrt::python
