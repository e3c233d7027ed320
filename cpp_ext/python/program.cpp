// What a program will do: plans, parameters, files held against bundles.
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "program.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using bundle::Program;
using program::Extent;
using program::Rect;
using program::Values;

/// nicrt._core.Round
struct PyRound {
    OwnedPtr owned;
    const program::Round* round;
};

/// nicrt._core.Tensor
struct PyTensor {
    OwnedPtr owned;
    const program::Tensor* tensor;
};

/// nicrt._core.Source
struct PySource {
    OwnedPtr owned;
    const program::Source* source;
};

template <class Work>
struct PyStep {
    OwnedPtr owned;
    const program::Step* step;

    [[nodiscard]] const Work& work() const { return std::get<Work>(step->work); }
};
using PyGraphStep = PyStep<program::GraphStep>;
using PyEntropyStep = PyStep<program::EntropyStep>;

nb::tuple tuple_of(const Rect& rect) { return nb::make_tuple(rect.top, rect.left, rect.bottom, rect.right); }
nb::tuple tuple_of(Extent extent) { return nb::make_tuple(extent.height, extent.width); }
nb::tuple tuple_of(const std::array<std::int32_t, 3>& shape) {
    return nb::make_tuple(shape[0], shape[1], shape[2]);
}

/// Whole numbers of 32 bits. Raises ValueError for others.
std::vector<std::int32_t> numbers_of(std::string_view name, nb::handle list) {
    std::vector<std::int32_t> numbers;
    for (const nb::handle item : list) {
        int overflow = 0;
        const nb::object index = nb::steal(PyNumber_Index(item.ptr()));
        if (!index.is_valid()) throw nb::python_error();
        const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
        require(overflow == 0 && number >= INT32_MIN && number <= INT32_MAX,
                "parameter '" + std::string(name) + "' has a value of more than 32 bits");
        numbers.push_back(static_cast<std::int32_t>(number));
    }
    return numbers;
}

}  // namespace

const Program& program_of(const PyBundle& bundle, std::string_view variant) {
    const auto* const found = bundle.bundle->manifest().variants.find(variant);
    require(found != nullptr, "the bundle has no variant '" + std::string(variant) + "'");
    return found->program;
}

Values values_of(const Program& program, const nb::dict& by_name) {
    Values values;
    for (const bundle::Parameter& parameter : program.parameters) {
        const nb::str name(parameter.name.data(), parameter.name.size());
        require(by_name.contains(name),
                "there are no values for parameter '" + std::string(parameter.name) + "'");
        values.push_back(numbers_of(parameter.name, by_name[name]));
    }
    require(by_name.size() == program.parameters.size(),
            "there are values for parameters that the program lacks");
    return values;
}

nb::dict dict_of(const Program& program, const Values& values) {
    nb::dict by_name;
    for (std::size_t i = 0; i < values.size(); ++i)
        by_name[nb::cast(program.parameters[i].name)] = nb::cast(values[i]);
    return by_name;
}

namespace {

Limits limits_of(std::uint64_t max_pixels, std::uint32_t max_stages) {
    Limits limits;
    limits.max_pixels = max_pixels;
    limits.max_stages = max_stages;
    return limits;
}

std::vector<PyRound> rounds_in(const OwnedPtr& owned) {
    std::vector<PyRound> rounds;
    for (const program::Round& round : owned->plan->rounds) rounds.push_back({owned, &round});
    return rounds;
}

nb::list steps_in(const PyPlan& self) {
    nb::list steps;
    for (const program::Step& step : self.owned->plan->steps) {
        if (std::holds_alternative<program::GraphStep>(step.work))
            steps.append(PyGraphStep{self.owned, &step});
        else steps.append(PyEntropyStep{self.owned, &step});
    }
    return steps;
}

/// Asks a Python function; what it raises comes out of `make_plan`'s caller.
struct Workspace {
    nb::object ask;
    std::optional<nb::python_error> error;

    double operator()(std::string_view graph) {
        if (error) return 0;
        try {
            return nb::cast<double>(ask(graph));
        } catch (nb::python_error& raised) {
            error.emplace(std::move(raised));
        }
        return 0;
    }
};

PyPlan plan(const PyBundle& bundle, std::string_view variant, const nb::dict& values, Size size, bool encode,
            std::optional<std::uint32_t> rounds, bool show, std::optional<Edges> region, std::uint32_t tile,
            std::int32_t batch, std::int32_t effort, bool windows, const nb::object& workspace) {
    const auto owned = std::make_shared<Owned>();
    const auto made = std::make_shared<program::Plan>();
    owned->bundle = bundle.bundle;
    owned->program = &program_of(bundle, variant);
    owned->plan = made;
    program::Request request;
    request.manifest = &bundle.bundle->manifest();
    request.program = owned->program;
    request.values = values_of(*owned->program, values);
    request.picture = {size.first, size.second};
    request.direction = encode ? program::Direction::encode : program::Direction::decode;
    request.rounds = rounds.value_or(UINT32_MAX);
    request.show = show;
    if (region) request.region = Rect{(*region)[0], (*region)[1], (*region)[2], (*region)[3]};
    request.tile = tile;
    request.batch = batch;
    request.effort = effort;
    request.windows = windows;
    Workspace asked{workspace, {}};
    if (!workspace.is_none()) request.workspace = [&](std::string_view graph) { return asked(graph); };
    const Status status = program::make_plan(request, *made);
    if (asked.error) throw nb::python_error(std::move(*asked.error));
    raise_if_error(status);
    return {owned};
}

void check_values(const PyBundle& bundle, std::string_view variant, const nb::dict& values,
                  std::uint64_t max_pixels, std::uint32_t max_stages) {
    const Program& program = program_of(bundle, variant);
    raise_if_error(
        program::check_values(program, values_of(program, values), limits_of(max_pixels, max_stages)));
}

std::vector<PyRound> rounds_of(const PyBundle& bundle, std::string_view variant, const nb::dict& values,
                               Size size) {
    const auto owned = std::make_shared<Owned>();
    owned->bundle = bundle.bundle;
    owned->program = &program_of(bundle, variant);
    const Values checked = values_of(*owned->program, values);
    raise_if_error(program::check_values(*owned->program, checked, limits_of(UINT64_MAX, UINT32_MAX)));
    const auto made = std::make_shared<program::Plan>();
    made->rounds = program::rounds_of(*owned->program, checked, {size.first, size.second});
    owned->plan = made;
    return rounds_in(owned);
}

nb::tuple open_file(const PyBundle& bundle, const PyFile& file, std::uint64_t max_pixels,
                    std::uint32_t max_stages) {
    program::Opened opened;
    raise_if_error(program::open_file(bundle.bundle->manifest(), file.file->header,
                                      limits_of(max_pixels, max_stages), opened));
    const auto owned = std::make_shared<Owned>();
    owned->bundle = bundle.bundle;
    owned->program = opened.program;
    const auto made = std::make_shared<program::Plan>();
    made->rounds = std::move(opened.rounds);
    owned->plan = made;
    return nb::make_tuple(opened.variant, dict_of(*opened.program, opened.values), rounds_in(owned));
}

nb::tuple choose(const PyBundle& bundle, Size size, double quality, std::optional<std::string_view> variant,
                 std::optional<std::vector<double>> scales, const nb::dict& parameters) {
    program::Wish wish;
    wish.quality = quality;
    wish.variant = variant;
    wish.scales = std::move(scales);
    for (const auto& [name, numbers] : parameters) {
        const auto text = nb::cast<std::string_view>(name);
        wish.parameters.emplace_back(text, numbers_of(text, numbers));
    }
    const bundle::Manifest& manifest = bundle.bundle->manifest();
    std::string_view chosen;
    Values values;
    raise_if_error(program::choose(manifest, wish, {size.first, size.second}, chosen, values));
    return nb::make_tuple(chosen, dict_of(manifest.variants.find(chosen)->program, values));
}

std::uint64_t most_pixels(const PyBundle& bundle, std::string_view variant, std::uint64_t max_pixels,
                          std::uint64_t memory_bytes, bool encode) {
    const auto direction = encode ? program::Direction::encode : program::Direction::decode;
    std::uint64_t pixels = 0;
    raise_if_error(program::most_pixels(bundle.bundle->manifest(), program_of(bundle, variant), max_pixels,
                                        memory_bytes, direction, pixels));
    return pixels;
}

std::string_view kind_of(const PySource& self) {
    static constexpr std::array<std::string_view, 6> kNames{"tensor", "parameter", "picture",
                                                            "size",   "rows",      "columns"};
    return kNames.at(static_cast<std::size_t>(self.source->kind));
}

std::size_t stage_of(const PyRound& self) {
    return static_cast<std::size_t>(self.round->stage - self.owned->program->stages.data());
}

std::vector<PySource> inputs_of(const PyGraphStep& self) {
    std::vector<PySource> inputs;
    for (const program::Source& source : self.work().inputs) inputs.push_back({self.owned, &source});
    return inputs;
}

nb::list calls_of(const PyGraphStep& self) {
    nb::list calls;
    for (const program::Call& call : self.work().calls)
        calls.append(
            nb::make_tuple(tuple_of(call.around), tuple_of(call.kept), call.first_row, call.end_row));
    return calls;
}

/// What a graph gets of a tensor on a rectangle: its shape, and the first row and column of it.
nb::tuple crop_of(const PyTensor& self, const Edges& edges) {
    const Rect rect{edges[0], edges[1], edges[2], edges[3]};
    const program::Tensor& tensor = *self.tensor;
    const program::Part part = tensor.stride == 0 ? program::Part{} : program::part_of(tensor, rect);
    return nb::make_tuple(nb::tuple(nb::cast(program::shape_on(tensor, rect))), part.first_row,
                          part.first_column);
}

nb::list output_shapes_of(const PyGraphStep& self, std::size_t number) {
    const program::GraphStep& work = self.work();
    require(number < work.calls.size(), "the step has no such call");
    nb::list shapes;
    for (const auto& [port, tensor] : work.outputs)
        shapes.append(nb::tuple(nb::cast(
            program::shape_of_call(self.owned->plan->tensors[tensor], work, port, work.calls[number]))));
    return shapes;
}

nb::dict dict_of(const std::vector<std::pair<std::string_view, std::int64_t>>& extents) {
    nb::dict symbols;
    for (const auto& [symbol, extent] : extents) symbols[nb::cast(symbol)] = extent;
    return symbols;
}

std::size_t place_of(const Owned& owned, const program::Step& step) {
    const bundle::Stage& stage = *owned.plan->rounds[step.round].stage;
    const auto* const graph = std::get_if<program::GraphStep>(&step.work);
    const auto is_step = [&](const bundle::Step& other) {
        if (graph != nullptr) return std::get_if<bundle::Run>(&other) == graph->run;
        return std::get_if<bundle::Entropy>(&other) == std::get<program::EntropyStep>(step.work).entropy;
    };
    const auto found = std::find_if(stage.steps.begin(), stage.steps.end(), is_step);
    const auto place = static_cast<std::size_t>(found - stage.steps.begin());
    if (found != stage.steps.end()) return place;
    return place + static_cast<std::size_t>(graph->run - stage.show.runs.data());
}

template <class Step>
nb::class_<Step> bind_step(nb::module_& module, const char* name, const char* text) {
    return nb::class_<Step>(module, name, text)
        .def_prop_ro("round", [](const Step& self) { return self.step->round; })
        .def_prop_ro(
            "place", [](const Step& self) { return place_of(*self.owned, *self.step); },
            "Which of its stage's steps, from 0; those that show the stage come behind the others.")
        .def_prop_ro(
            "needed", [](const Step& self) { return self.step->needed; },
            "False: nothing that is shown of a region needs it.")
        .def_prop_ro(
            "rect", [](const Step& self) { return tuple_of(self.step->rect); },
            "Pixels that its outputs cover: top, left, bottom, right.")
        .def_prop_ro(
            "dies", [](const Step& self) { return self.step->dies; }, "Tensors that nothing reads after it.");
}

void bind_rounds_and_tensors(nb::module_& module) {
    nb::class_<PyRound>(module, "Round", "One run of a stage.")
        .def_prop_ro("stage", &stage_of, "Which of the program's stages, from 0.")
        .def_prop_ro(
            "size", [](const PyRound& self) { return tuple_of(self.round->size); },
            "Height and width in pixels.")
        .def_prop_ro("padded", [](const PyRound& self) { return tuple_of(self.round->padded); })
        .def_prop_ro(
            "number", [](const PyRound& self) { return self.round->number; },
            "Its place among the file's stages.")
        .def_prop_ro(
            "item", [](const PyRound& self) { return self.round->item; },
            "Its place in the list that the stage runs for.");
    nb::class_<PyTensor>(module, "Tensor", "What a step writes.")
        .def_prop_ro("name", [](const PyTensor& self) { return self.tensor->name; })
        .def_prop_ro("dtype", [](const PyTensor& self) { return bundle::name_of(self.tensor->dtype); })
        .def_prop_ro("shape", [](const PyTensor& self) { return nb::tuple(nb::cast(self.tensor->shape)); })
        .def_prop_ro("rect", [](const PyTensor& self) { return tuple_of(self.tensor->rect); })
        .def_prop_ro(
            "stride", [](const PyTensor& self) { return self.tensor->stride; },
            "Pixels a place; 0 where it is not spatial.")
        .def_prop_ro(
            "axes",
            [](const PyTensor& self) { return nb::make_tuple(self.tensor->axes[0], self.tensor->axes[1]); })
        .def_prop_ro("per_picture", [](const PyTensor& self) { return self.tensor->per_picture; })
        .def_prop_ro("first_step", [](const PyTensor& self) { return self.tensor->first_step; })
        .def_prop_ro(
            "last_step",
            [](const PyTensor& self) -> std::optional<std::uint32_t> {
                if (self.tensor->last_step == UINT32_MAX) return std::nullopt;
                return self.tensor->last_step;
            },
            "The step that reads it last; None where it is shown.")
        .def_prop_ro("bytes", [](const PyTensor& self) { return self.tensor->bytes(); })
        .def("crop", &crop_of, "rect"_a,
             "What a graph gets of it on a rectangle: shape, first row, first column.");
}

void bind_steps(nb::module_& module) {
    nb::class_<PySource>(module, "Source", "What an input port of a graph takes.")
        .def_prop_ro("port", [](const PySource& self) { return self.source->port; })
        .def_prop_ro("kind", &kind_of, "tensor, parameter, picture, size, rows or columns")
        .def_prop_ro("tensor", [](const PySource& self) { return self.source->tensor; })
        .def_prop_ro(
            "parameter",
            [](const PySource& self) { return self.owned->program->parameters[self.source->parameter].name; })
        .def_prop_ro("element", [](const PySource& self) { return self.source->element; })
        .def_prop_ro("values", [](const PySource& self) { return self.source->values; })
        .def_prop_ro("per_picture", [](const PySource& self) { return self.source->per_picture; });
    using Graph = PyGraphStep;
    bind_step<Graph>(module, "GraphStep", "A step that runs a graph.")
        .def_prop_ro("graph", [](const Graph& self) { return self.work().name; })
        .def_prop_ro("enc", [](const Graph& self) { return self.work().run->enc; })
        .def_prop_ro("inputs", &inputs_of, "In the order of the graph's ports.")
        .def_prop_ro(
            "outputs", [](const Graph& self) { return self.work().outputs; }, "Ports and their tensors.")
        .def_prop_ro("calls", &calls_of,
                     "Of each call: rectangle it runs on, what of it is kept, first and end row.")
        .def("output_shapes", &output_shapes_of, "call"_a,
             "What a call (by its number) gives, in the order of the outputs; of a band its rows.")
        .def_prop_ro("banded", [](const Graph& self) { return self.work().banded; })
        .def_prop_ro("one_by_one", [](const Graph& self) { return self.work().one_by_one; })
        .def_prop_ro("unit", [](const Graph& self) { return self.work().unit; })
        .def_prop_ro(
            "symbols", [](const Graph& self) { return dict_of(self.work().symbols); },
            "Extents of the dimension symbols of the inputs.")
        .def_prop_ro(
            "least_symbols", [](const Graph& self) { return dict_of(self.work().least_symbols); },
            "Of a banded step: the same of the smallest band with which a picture of any height may end.");
    using Coded = PyEntropyStep;
    bind_step<Coded>(module, "EntropyStep", "A step that codes a stream.")
        .def_prop_ro("name", [](const Coded& self) { return self.work().entropy->out; })
        .def_prop_ro("tables", [](const Coded& self) { return self.work().entropy->tables; })
        .def_prop_ro("stride", [](const Coded& self) { return self.work().entropy->stride; })
        .def_prop_ro("stream", [](const Coded& self) { return self.work().stream; })
        .def_prop_ro("out", [](const Coded& self) { return self.work().out; })
        .def_prop_ro("symbols", [](const Coded& self) { return self.work().symbols; })
        .def_prop_ro("index", [](const Coded& self) { return self.work().index; })
        .def_prop_ro(
            "set", [](const Coded& self) { return self.work().entropy->set; },
            "The parameter that picks table sets.")
        .def_prop_ro("sets", [](const Coded& self) { return self.work().sets; })
        .def_prop_ro("whole", [](const Coded& self) { return tuple_of(self.work().whole); })
        .def_prop_ro("shape", [](const Coded& self) { return tuple_of(self.work().shape); })
        .def_prop_ro(
            "first_tile",
            [](const Coded& self) {
                return nb::make_tuple(self.work().first_tile_row, self.work().first_tile_column);
            },
            "Row and column.")
        .def_prop_ro(
            "tiles",
            [](const Coded& self) { return nb::make_tuple(self.work().tile_rows, self.work().tile_columns); },
            "Rows and columns that are read.")
        .def_prop_ro("grid_columns", [](const Coded& self) { return self.work().grid_columns; });
}

}  // namespace

void register_program(nb::module_& module) {
    bind_rounds_and_tensors(module);
    bind_steps(module);
    nb::class_<PyPlan>(module, "Plan", "What a program will do for one picture.")
        .def_prop_ro("rounds", [](const PyPlan& self) { return rounds_in(self.owned); })
        .def_prop_ro("tensors",
                     [](const PyPlan& self) {
                         std::vector<PyTensor> tensors;
                         for (const program::Tensor& tensor : self.owned->plan->tensors)
                             tensors.push_back({self.owned, &tensor});
                         return tensors;
                     })
        .def_prop_ro("steps", &steps_in)
        .def_prop_ro("shown", [](const PyPlan& self) { return self.owned->plan->shown; })
        .def_prop_ro("region", [](const PyPlan& self) { return tuple_of(self.owned->plan->region); })
        .def_prop_ro("memory_bytes", [](const PyPlan& self) { return self.owned->plan->memory_bytes; });
    const Limits limits;
    module.def(
        "plan", &plan, "bundle"_a, "variant"_a, "values"_a, "size"_a, nb::kw_only(), "encode"_a = false,
        "rounds"_a = nb::none(), "show"_a = true, "region"_a = nb::none(), "tile"_a = 0, "batch"_a = 1,
        "effort"_a = 0, "windows"_a = true, "workspace"_a = nb::none(),
        "The plan for a picture of `size` (height, width). region: top, left, bottom, right. workspace: "
        "graph → "
        "bytes per pixel, in place of the manifest's. Raises ValueError, UnsupportedError or LimitError.");
    module.def(
        "check_values", &check_values, "bundle"_a, "variant"_a, "values"_a,
        "max_pixels"_a = limits.max_pixels, "max_stages"_a = limits.max_stages,
        "Raises ValueError for values that the program does not take, LimitError for too large a size.");
    module.def(
        "default_values",
        [](const PyBundle& bundle, std::string_view variant, Size size) {
            const Program& program = program_of(bundle, variant);
            return dict_of(program, program::default_values(program, {size.first, size.second}));
        },
        "bundle"_a, "variant"_a, "size"_a, "What an encoder takes where nobody asks for anything else.");
    module.def("rounds_of", &rounds_of, "bundle"_a, "variant"_a, "values"_a, "size"_a,
               "All rounds, in file order.");
    module.def("open_file", &open_file, "bundle"_a, "file"_a, "max_pixels"_a = limits.max_pixels,
               "max_stages"_a = limits.max_stages,
               "Variant, values and rounds of a file. Raises WrongBundleError, CorruptError or LimitError.");
    module.def("choose", &choose, "bundle"_a, "size"_a, nb::kw_only(), "quality"_a, "variant"_a = nb::none(),
               "scales"_a = nb::none(), "parameters"_a = nb::dict(),
               "Variant and values for a picture. Raises ValueError for what is not there.");
    module.def("most_pixels", &most_pixels, "bundle"_a, "variant"_a, "max_pixels"_a, "memory_bytes"_a,
               "encode"_a = false, "Pixels of the largest square picture within the limits; 0 for none.");
}

}  // namespace nicrt::python
