// Encodes and decodes step by step.
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <string>
#include <utility>

#include "engine.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using engine::Execution;

program::Rect rect_of(const Edges& edges) { return {edges[0], edges[1], edges[2], edges[3]}; }

/// nicrt._core.Execution
struct PyExecution {
    PyPlan plan;
    std::shared_ptr<engine::Graphs> graphs;
    PyMemo memo;
    std::unique_ptr<Signals> signals;
    std::unique_ptr<Execution> execution;
    unsigned threads;
};

std::optional<std::vector<engine::Array>> arrays_of(const std::optional<std::vector<nb::object>>& objects) {
    if (!objects) return std::nullopt;
    std::vector<engine::Array> arrays;
    for (const nb::object& object : *objects) arrays.push_back(from_numpy(object));
    return arrays;
}

std::unique_ptr<PyExecution> make(const PyEngine& engine, const PyPlan& plan, const PyMemo* memo,
                                  Execution::Input input) {
    auto self = std::make_unique<PyExecution>();
    self->plan = plan;
    self->graphs = engine.graphs;
    self->memo = memo != nullptr ? *memo : PyMemo{std::make_shared<Budget>(engine.memory_bytes), nullptr};
    self->threads = engine.threads;
    input.plan = plan.owned->plan.get();
    input.graphs = self->graphs.get();
    input.memo = self->memo.memo.get();
    self->signals = std::make_unique<Signals>();
    input.work = engine.work(self->signals.get(), self->memo.budget.get());
    raise_if_error(Execution::make(std::move(input), self->execution));
    return self;
}

std::unique_ptr<PyExecution> encode(const PyEngine& engine, const PyPlan& plan, nb::handle picture,
                                    nb::object resample, const std::optional<std::vector<nb::object>>& given,
                                    const PyMemo* memo) {
    Execution::Input input;
    input.encoding = true;
    input.picture = from_numpy(picture);
    input.given = arrays_of(given);
    const auto kept = std::make_shared<Kept>(std::move(resample));
    input.resample = [kept](program::Extent size, engine::Array& out) {
        return call_python([&] { out = from_numpy(kept->get()(size.height, size.width)); });
    };
    return make(engine, plan, memo, std::move(input));
}

std::unique_ptr<PyExecution> show(const PyEngine& engine, const PyPlan& plan,
                                  const std::vector<nb::object>& given, const PyMemo* memo) {
    Execution::Input input;
    input.given = arrays_of(given);
    return make(engine, plan, memo, std::move(input));
}

std::optional<std::uint32_t> step(PyExecution& self) {
    std::uint32_t number = 0;
    bool done = false;
    with_python([&] { return self.execution->step(number, done); });
    if (done) return std::nullopt;
    return number;
}

void run(PyExecution& self) {
    with_python([&] { return self.execution->run(); });
}

nb::object tensor(const PyExecution& self, std::string_view name, const std::optional<Edges>& rect) {
    engine::Array array;
    const program::Tensor* planned = nullptr;
    raise_if_error(self.execution->tensor(name, array, planned));
    if (!rect || planned->stride == 0) return to_numpy(array);
    return to_numpy(array, *planned, program::part_of(*planned, rect_of(*rect)), false);
}

std::int32_t stride(const PyExecution& self, std::string_view name) {
    engine::Array array;
    const program::Tensor* planned = nullptr;
    raise_if_error(self.execution->tensor(name, array, planned));
    return planned->stride;
}

nb::object change(PyExecution& self, std::string_view name) {
    engine::Array array;
    const program::Tensor* planned = nullptr;
    raise_if_error(self.execution->change(name, array, planned));
    return to_numpy(array, true);
}

nb::object picture(PyExecution& self, std::uint32_t round, const Edges& rect) {
    engine::Array array;
    with_python([&] { return self.execution->picture(round, rect_of(rect), array); });
    return to_numpy(array);
}

PyCoded coded(const PyExecution& self, std::uint32_t step) {
    PyCoded result{{}, self.plan.owned->bundle, self.threads};
    raise_if_error(self.execution->coded(step, result.coded));
    return result;
}

nb::list evaluate(PyExecution& self, const PyPlan& plan, std::uint32_t step, std::string_view graph,
                  const Edges& rect, const nb::dict& given) {
    std::vector<engine::Named> arrays;
    for (const auto& [name, array] : given)
        arrays.push_back({nb::cast<std::string_view>(name), from_numpy(array)});
    std::vector<engine::Array> outputs;
    with_python([&] {
        return self.execution->evaluate(*plan.owned->plan, step, graph, rect_of(rect), arrays, outputs);
    });
    nb::list result;
    for (const engine::Array& output : outputs) result.append(to_numpy(output));
    return result;
}

nb::object shown(const PyExecution& self) {
    engine::Array array;
    raise_if_error(self.execution->shown(array));
    return to_numpy(array);
}

StreamOptions options(const PyCoded& self, std::uint32_t tile) {
    return {tile / static_cast<std::uint32_t>(self.coded.entropy->stride), on_threads(self.threads)};
}

EncodedStream write(const PyCoded& self, std::uint32_t tile, std::uint32_t symbols_per_lane) {
    EncodedStream encoded;
    const StreamOptions how = options(self, tile);
    without_gil([&] {  // what is not coded is 0 already: nothing is changed
        return encode_stream(*self.coded.codebook, self.coded.tables(), self.coded.symbols.as<std::int32_t>(),
                             self.coded.shape(), how, symbols_per_lane, encoded);
    });
    return encoded;
}

bool is_written(const PyCoded& self, nb::handle data, const PyStream& stream, std::uint32_t tile) {
    const Buffer file(data);
    const StreamOptions how = options(self, tile);
    bool same = false;
    without_gil([&]() -> Status {
        engine::Array read;
        NICRT_RETURN_IF_ERROR(
            engine::Array::make(bundle::Element::int32, self.coded.symbols.shape, nullptr, read));
        NICRT_RETURN_IF_ERROR(decode_stream(*self.coded.codebook, self.coded.tables(), self.coded.shape(),
                                            how, file.bytes(), *stream.stream, read.as<std::int32_t>()));
        same = std::memcmp(read.data, self.coded.symbols.data, read.bytes()) == 0;
        return {};
    });
    return same;
}

std::size_t tiles(const PyCoded& self, std::uint32_t tile) {
    const auto edge = tile / static_cast<std::uint32_t>(self.coded.entropy->stride);
    const TensorShape shape = self.coded.shape();
    if (edge == 0) return 1;
    return std::size_t{(shape.height + edge - 1) / edge} * ((shape.width + edge - 1) / edge);
}

PyCoded replaced(const PyCoded& self, nb::handle symbols) {
    PyCoded result = self;
    result.coded.symbols = from_numpy(symbols);
    const engine::Array &made = result.coded.symbols, &before = self.coded.symbols;
    require(made.dtype == before.dtype && made.shape == before.shape, "symbols of another type or shape");
    return result;
}

nb::tuple cost(const PyCoded& self) {
    StreamCost result;
    without_gil([&] {
        return cost_of_stream(*self.coded.codebook, self.coded.tables(),
                              self.coded.symbols.as<const std::int32_t>(), self.coded.shape(), result);
    });
    return nb::make_tuple(result.bits, result.coded);
}

}  // namespace

void register_execution(nb::module_& module) {
    nb::class_<PyMemo>(module, "Memo",
                       "What the steps for one picture gave, kept from one trial to the next.")
        .def(
            "__init__",
            [](PyMemo* self, std::uint64_t memory_bytes, std::uint64_t kept_bytes) {
                new (self) PyMemo{std::make_shared<Budget>(memory_bytes),
                                  std::make_shared<engine::Memo>(kept_bytes)};
            },
            "memory_bytes"_a, "kept_bytes"_a,
            "memory_bytes: of what is kept and of the executions that use it. kept_bytes: of what is kept.")
        .def_prop_ro(
            "macs", [](const PyMemo& self) { return self.memo->macs; },
            "Multiply-accumulates of all graphs that have run, by the manifest's figures.");
    nb::class_<PyCoded>(module, "Coded",
                        "Symbols of a stream, 0 where they are not coded, and what codes them.")
        .def_prop_ro(
            "out", [](const PyCoded& self) { return self.coded.entropy->out; }, "The tensor's name.")
        .def_prop_ro("stride", [](const PyCoded& self) { return self.coded.entropy->stride; })
        .def_prop_ro("codebook", [](const PyCoded& self) { return PyCodebook{self.coded.codebook}; })
        .def_prop_ro(
            "symbols", [](const PyCoded& self) { return to_numpy(self.coded.symbols, self.writable); },
            "int32 [channels, height, width].")
        .def_prop_ro(
            "index", [](const PyCoded& self) { return to_numpy(self.coded.index); },
            "uint8, the table of each channel, or of each place.")
        .def_prop_ro(
            "clipped", [](const PyCoded& self) { return self.coded.clipped; },
            "Symbols on an end of low..high, where encoders clip.")
        .def_prop_ro("low", [](const PyCoded& self) { return self.coded.low; })
        .def_prop_ro("high", [](const PyCoded& self) { return self.coded.high; })
        .def("encode", &write, "tile"_a, "symbols_per_lane"_a, "Entropy coded, in tiles of so many pixels.")
        .def("is_in", &is_written, "data"_a, "stream"_a, "tile"_a,
             "Whether a stream of a file's bytes decodes to these symbols.")
        .def("tiles", &tiles, "tile"_a, "How many tiles of so many pixels there are.")
        .def("replaced", &replaced, "symbols"_a,
             "The same with other symbols, int32 [channels, height, width]: 0 where they are not coded.")
        .def("cost", &cost, "Bits that the symbols take but for lanes and headers, and how many are coded.");
    nb::class_<PyExecution>(module, "Execution", "One encode or decode. One thread at a time.")
        .def_static("encode", &encode, "engine"_a, "plan"_a, "picture"_a, "resample"_a,
                    "given"_a = nb::none(), "memo"_a = nb::none(),
                    "picture: float32 [height, width, 3]; resample(height, width) gives it at another size. "
                    "given: the "
                    "symbols of every stream, in place of `enc` steps.")
        .def_static("show", &show, "engine"_a, "plan"_a, "given"_a, "memo"_a = nb::none(),
                    "Decodes the symbols of every stream.")
        .def("step", &step, "Runs the next step: its number; None where none is left.")
        .def("run", &run, "Runs all steps that are left.")
        .def("tensor", &tensor, "name"_a, "rect"_a = nb::none(),
             "The tensor of this name, read-only; of a spatial one the part that covers a rectangle.")
        .def("stride", &stride, "name"_a, "Pixels a place; 0 for a tensor that is not spatial.")
        .def("change", &change, "name"_a, "The tensor, to be changed in place.")
        .def("picture", &picture, "round"_a, "rect"_a, "float32 [1, 3, height, width] of a rectangle.")
        .def("coded", &coded, "step"_a, "What the entropy step that has just run had to code.")
        .def("evaluate", &evaluate, "plan"_a, "step"_a, "graph"_a, "rect"_a, "given"_a,
             "Runs a graph in the place of a step's on a rectangle, some of its sources given; the step's "
             "outputs.")
        .def("shown", &shown, "uint8 [height, width, 3].");
}

}  // namespace nicrt::python
