// Graphs in native form (nicrt/engine.hpp) and proofs (nicrt/proofs.hpp) on numpy arrays.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "bindings.hpp"
#include "convert.hpp"
#include "nicrt/build_id.hpp"
#include "nicrt/engine.hpp"
#include "nicrt/proofs.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;

constexpr std::pair<std::string_view, native::Arithmetic> kArithmetics[] = {
    {"best", native::Arithmetic::best},
    {"scalar", native::Arithmetic::scalar},
    {"avx2", native::Arithmetic::avx2},
    {"avx512", native::Arithmetic::avx512},
    {"avx512_bf16", native::Arithmetic::avx512_bf16}};
constexpr std::pair<std::string_view, native::IntegerIsa> kIsas[] = {
    {"best", native::IntegerIsa::best},
    {"scalar", native::IntegerIsa::scalar},
    {"avx2", native::IntegerIsa::avx2},
    {"avx512_vnni", native::IntegerIsa::avx512_vnni}};

template <class Choices>
auto chosen(const Choices& choices, std::string_view name) {
    for (const auto& [known, value] : choices)
        if (name == known) return value;
    throw nb::value_error(("there are no instructions of the name " + std::string(name)).c_str());
}

native::Arithmetic arithmetic_of(std::string_view name) { return chosen(kArithmetics, name); }

/// The entry of a graph, with the text that its names are views of.
struct Entry {
    bundle::Graph graph;
    std::shared_ptr<const void> text;
};

Entry entry_of(const nb::bytes& json) {
    Entry entry;
    std::string text(json.c_str(), json.size());
    without_gil([&] { return bundle::read_graph_entry("g", std::move(text), entry.graph, entry.text); });
    return entry;
}

/// Of the ports of a graph, in their order; those that are missing are left out.
std::vector<engine::Named> named(const bundle::Named<bundle::Port>& ports, const nb::dict& arrays) {
    std::vector<engine::Named> all;
    for (const auto& [name, port] : ports) {
        const nb::str key(name.data(), name.size());
        if (arrays.contains(key)) all.push_back({name, from_numpy(arrays[key])});
    }
    return all;
}

/// nicrt._core.NativeGraph
struct PyNativeGraph {
    Entry entry;
    std::shared_ptr<const engine::Executable> executable;
};

bundle::Tensor tensor_of(std::string_view name, nb::handle object) {
    const engine::Array array = from_numpy(object);
    return {name,
            array.dtype,
            {array.shape.begin(), array.shape.end()},
            {array.data, array.data + array.bytes()}};
}

PyNativeGraph make(const nb::bytes& json, const nb::dict& weights, std::string_view arithmetic,
                   std::string_view isa, bool beside_onnxruntime) {
    without_gil([&, text = std::string(json.c_str(), json.size())]() mutable {
        std::string hash;
        return bundle::check_graph_entry("g", std::move(text), hash);
    });
    PyNativeGraph made{entry_of(json), nullptr};
    std::vector<bundle::Tensor> tensors;
    if (made.entry.graph.native)
        for (const auto& [name, view] : made.entry.graph.native->tensors)
            tensors.push_back(tensor_of(name, weights[nb::str(name.data(), name.size())]));
    const engine::NativeOptions options{arithmetic_of(arithmetic), chosen(kIsas, isa), beside_onnxruntime};
    without_gil([&] {
        bool other_kind = false;
        return engine::make_native_executable(made.entry.graph, std::move(tensors), made.entry.text, options,
                                              made.executable, other_kind);
    });
    return made;
}

/// Sizes of a graph's symbols in these inputs; of the batch the largest, as one picture goes with many.
bundle::Named<std::int32_t> sizes_of(const bundle::Graph& graph, const std::vector<engine::Named>& inputs) {
    std::map<std::string_view, std::int32_t> sizes;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const bundle::Port& port = graph.inputs.items[i].second;
        const auto& shape = inputs[i].array.shape;
        bool fits = inputs[i].array.dtype == port.dtype && shape.size() == port.dims.size();
        for (std::size_t axis = 0; fits && axis < shape.size(); ++axis) {
            const bundle::Dimension& dimension = port.dims[axis];
            fits = dimension.extent == 0 ? shape[axis] > 0 && shape[axis] % dimension.factor == 0
                                         : shape[axis] == dimension.extent;
            if (dimension.extent > 0) continue;
            std::int32_t& size = sizes[dimension.symbol];
            size = std::max(size, static_cast<std::int32_t>(shape[axis] / dimension.factor));
        }
        require(fits, "an input of another type or shape than its port's");
    }
    bundle::Named<std::int32_t> all;
    all.items.assign(sizes.begin(), sizes.end());
    return all;
}

nb::list run(const PyNativeGraph& self, const nb::dict& py_inputs, const std::vector<std::string>& names,
             unsigned threads) {
    const bundle::Graph& graph = self.entry.graph;
    const std::vector<engine::Named> inputs = named(graph.inputs, py_inputs);
    require(inputs.size() == graph.inputs.size(), "not every input of the graph");
    const bundle::Named<std::int32_t> sizes = sizes_of(graph, inputs);
    std::vector<engine::Named> outputs;
    for (const std::string& name : names) {
        const bundle::Port* const port = graph.outputs.find(name);
        require(port != nullptr, "the graph has no output " + name);
        engine::Named& output = outputs.emplace_back();
        output.port = name;
        output.array.dtype = port->dtype;
        raise_if_error(engine::shape_of(*port, sizes, output.array.shape));
    }
    const Work work = on_threads(threads);
    without_gil([&] { return self.executable->run(inputs, outputs, work); });
    nb::list results;
    for (const engine::Named& output : outputs) results.append(to_numpy(output.array, true));
    return results;
}

nb::dict proof_inputs(const nb::bytes& json, std::int64_t seed,
                      const std::map<std::string, std::int32_t>& sizes) {
    const Entry entry = entry_of(json);
    bundle::Proof proof;
    proof.seed = seed;
    for (const auto& [symbol, size] : sizes) proof.sizes.items.emplace_back(symbol, size);
    std::vector<engine::Named> inputs;
    without_gil([&] { return engine::proof_inputs(entry.graph, proof, nullptr, inputs); });
    nb::dict result;
    for (const engine::Named& input : inputs)
        result[nb::str(input.port.data(), input.port.size())] = to_numpy(input.array, true);
    return result;
}

std::string outputs_sha256(const nb::bytes& json, const nb::dict& outputs) {
    const Entry entry = entry_of(json);
    const std::vector<engine::Named> arrays = named(entry.graph.outputs, outputs);
    std::string sha256;
    without_gil([&] { return engine::outputs_sha256(entry.graph, arrays, sha256); });
    return sha256;
}

/// Of every exact graph that our own kernels run.
std::vector<std::string> prove_native(const PyBundle& self, std::string_view arithmetic, std::string_view isa,
                                      unsigned threads) {
    const engine::NativeOptions options{arithmetic_of(arithmetic), chosen(kIsas, isa)};
    const Work work = on_threads(threads);
    std::vector<std::string> proven;
    without_gil([&]() -> Status {
        const auto backend = engine::make_native_backend(options);
        for (const auto& [name, graph] : self.bundle->manifest().graphs) {
            if (!graph.exact) continue;
            std::shared_ptr<const engine::Executable> executable;
            bool other_kind = false;
            const Status status = backend->load(*self.bundle, name, executable, other_kind);
            if (other_kind) continue;
            NICRT_RETURN_IF_ERROR(status);
            NICRT_RETURN_IF_ERROR(engine::prove(graph, *executable, work));
            proven.emplace_back(name);
        }
        return {};
    });
    return proven;
}

}  // namespace

void register_native_graph(nb::module_& module) {
    nb::class_<PyNativeGraph>(module, "NativeGraph", "A graph in native form, run by our own kernels.")
        .def(nb::new_(&make), "entry"_a, "weights"_a, "arithmetic"_a = "best", "isa"_a = "best",
             "beside_onnxruntime"_a = false,
             "entry: the graph's in a manifest, JSON; weights: what its native form uses of stored tensors. "
             "Raises UnsupportedError for what the kernels cannot do.")
        .def_prop_ro("workspace_bytes_per_pixel",
                     [](const PyNativeGraph& self) { return self.executable->workspace_bytes_per_pixel(); })
        .def("run", &run, "inputs"_a, "outputs"_a, "threads"_a,
             "Inputs by the names of all ports → the named outputs.");
    module.def("proof_inputs", &proof_inputs, "entry"_a, "seed"_a, "sizes"_a,
               "Inputs of an exact graph for a proof (docs/BUNDLE.md, section 10), by port.");
    module.def("outputs_sha256", &outputs_sha256, "entry"_a, "outputs"_a,
               "Hex SHA-256 over the integer outputs of an exact graph, by port.");
    module.def("prove_native", &prove_native, "bundle"_a, "arithmetic"_a = "best", "isa"_a = "best",
               "threads"_a = 1,
               "Runs the proofs of the exact graphs of a bundle that our own kernels run, and gives their "
               "names. Raises UnsupportedError where one does not give the integers that it should.");
    const std::string_view id = build_id();
    module.attr("build_id") = nb::str(id.data(), id.size());
}

}  // namespace nicrt::python
