// ONNX models of bundles.
#include "nicrt/onnx.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using onnx::Model;

/// What was read, and the bytes that it is a view of.
struct Read {
    nb::bytes bytes;
    Model model;
};

using ReadPtr = std::shared_ptr<const Read>;

/// nicrt._core.OnnxModel
struct PyOnnxModel {
    ReadPtr read;
};

/// nicrt._core.OnnxNode, OnnxTensor and OnnxPort: parts of a model, which they keep alive
struct PyOnnxNode {
    std::shared_ptr<const onnx::Node> node;
};
struct PyOnnxTensor {
    std::shared_ptr<const onnx::Tensor> tensor;
};
struct PyOnnxPort {
    std::shared_ptr<const onnx::Port> port;
};

PyOnnxModel read(nb::bytes data) {
    auto result = std::make_shared<Read>(Read{data, {}});
    const auto* const bytes = static_cast<const std::uint8_t*>(data.data());
    without_gil([&] { return onnx::read({bytes, data.size()}, result->model); });
    return {std::move(result)};
}

nb::bytes write(const PyOnnxModel& self) {
    const std::size_t count = onnx::written_bytes(self.read->model);
    nb::bytes result =
        nb::steal<nb::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count)));
    if (!result.is_valid()) throw nb::python_error();
    auto* const memory = reinterpret_cast<std::uint8_t*>(PyBytes_AS_STRING(result.ptr()));
    without_gil([&] {
        onnx::write(self.read->model, {memory, count});
        return Status();
    });
    return result;
}

const char* name_of(onnx::Element element) {
    switch (element) {
        case onnx::Element::float32: return "float32";
        case onnx::Element::uint8: return "uint8";
        case onnx::Element::int8: return "int8";
        case onnx::Element::uint16: return "uint16";
        case onnx::Element::int16: return "int16";
        case onnx::Element::int32: return "int32";
        case onnx::Element::int64: return "int64";
        case onnx::Element::boolean: return "bool";
        case onnx::Element::float16: return "float16";
        case onnx::Element::float64: return "float64";
        case onnx::Element::uint32: return "uint32";
        case onnx::Element::uint64: break;
    }
    return "uint64";
}

nb::bytes to_bytes(std::string_view text) { return nb::bytes(text.data(), text.size()); }

struct ToPython {
    std::shared_ptr<const onnx::Node> owner;

    nb::object operator()(std::string_view text) const { return to_bytes(text); }
    nb::object operator()(const std::vector<std::string_view>& texts) const {
        nb::list result;
        for (const std::string_view text : texts) result.append(to_bytes(text));
        return result;
    }
    nb::object operator()(const onnx::Tensor& tensor) const {
        return nb::cast(PyOnnxTensor{{owner, &tensor}});
    }
    template <class Other>
    nb::object operator()(const Other& value) const {
        return nb::cast(value);
    }
};

nb::dict attributes_of(const PyOnnxNode& self) {
    nb::dict result;
    for (const auto& attribute : self.node->attributes)
        result[nb::cast(attribute.name)] = std::visit(ToPython{self.node}, attribute.value);
    return result;
}

/// An array of bytes in the model's memory; as a property's value it keeps the tensor alive.
auto data_of(const PyOnnxTensor& self) {
    const auto bytes = self.tensor->data;
    return nb::ndarray<const std::uint8_t, nb::numpy, nb::ndim<1>>(bytes.data(), {bytes.size()});
}

nb::object dimensions_of(const PyOnnxPort& self) {
    if (!self.port->shape) return nb::none();
    nb::list result;
    for (const auto& dimension : *self.port->shape) {
        if (dimension.extent) result.append(*dimension.extent);
        else result.append(dimension.symbol);
    }
    return result;
}

template <class Wrapped, class Part>
std::vector<Wrapped> parts(const ReadPtr& read, const std::vector<Part>& all) {
    std::vector<Wrapped> result;
    result.reserve(all.size());
    for (const Part& part : all) result.push_back({{read, &part}});
    return result;
}

nb::set operators_of(const PyOnnxModel& self) {
    std::set<std::string_view> names;
    for (const auto& node : self.read->model.nodes) names.insert(node.op);
    nb::set result;
    for (const std::string_view name : names) result.add(nb::cast(name));
    return result;
}

void register_parts(nb::module_& module) {
    nb::class_<PyOnnxTensor>(module, "OnnxTensor", "A constant of an ONNX model.")
        .def_prop_ro("name", [](const PyOnnxTensor& self) { return self.tensor->name; })
        .def_prop_ro(
            "dtype", [](const PyOnnxTensor& self) { return name_of(self.tensor->element); }, "NumPy's name.")
        .def_prop_ro("shape", [](const PyOnnxTensor& self) { return self.tensor->shape; })
        .def_prop_ro("data", &data_of,
                     "uint8 [bytes]: its values, little-endian, in the memory of what was read.");

    nb::class_<PyOnnxNode>(module, "OnnxNode",
                           "An operator of an ONNX model. An input that is left out is ''.")
        .def_prop_ro("name", [](const PyOnnxNode& self) { return self.node->name; })
        .def_prop_ro("operator", [](const PyOnnxNode& self) { return self.node->op; })
        .def_prop_ro("inputs", [](const PyOnnxNode& self) { return self.node->inputs; })
        .def_prop_ro("outputs", [](const PyOnnxNode& self) { return self.node->outputs; })
        .def_prop_ro("attributes", &attributes_of,
                     "By name: int, float, bytes, OnnxTensor, or a list of numbers.");

    nb::class_<PyOnnxPort>(module, "OnnxPort", "An input or output of an ONNX model.")
        .def_prop_ro("name", [](const PyOnnxPort& self) { return self.port->name; })
        .def_prop_ro(
            "dtype", [](const PyOnnxPort& self) { return name_of(self.port->element); }, "NumPy's name.")
        .def_prop_ro("dims", &dimensions_of,
                     "Extents, symbols, or '' where nothing is known; None where there is no rank.");
}

}  // namespace

void register_onnx(nb::module_& module) {
    register_parts(module);
    nb::class_<PyOnnxModel>(module, "OnnxModel", "An ONNX model that a bundle may have.")
        .def_static("read", &read, "data"_a, "Raises UnsupportedError for what a bundle may not have.")
        .def("write", &write, "The model in its one form of bytes.")
        .def_prop_ro("opset", [](const PyOnnxModel& self) { return self.read->model.opset; })
        .def_prop_ro("operators", &operators_of, "Names of the operators that it uses.")
        .def_prop_ro(
            "nodes",
            [](const PyOnnxModel& self) { return parts<PyOnnxNode>(self.read, self.read->model.nodes); })
        .def_prop_ro("initializers",
                     [](const PyOnnxModel& self) {
                         return parts<PyOnnxTensor>(self.read, self.read->model.initializers);
                     })
        .def_prop_ro(
            "inputs",
            [](const PyOnnxModel& self) { return parts<PyOnnxPort>(self.read, self.read->model.inputs); })
        .def_prop_ro("outputs", [](const PyOnnxModel& self) {
            return parts<PyOnnxPort>(self.read, self.read->model.outputs);
        });
    module.def(
        "onnx_operators",
        [] {
            const auto names = onnx::operators();
            return std::vector<std::string_view>(names.begin(), names.end());
        },
        "Names of the operators that models may use, sorted.");
}

}  // namespace nicrt::python
