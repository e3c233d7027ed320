// Graphs of a bundle, plans of its programs, and files decoded.
#include "engine.hpp"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <utility>

namespace nicrt::python {
namespace {

using namespace nb::literals;
using engine::Execution;

std::vector<std::shared_ptr<const engine::Backend>> backends_of(const std::vector<nb::object>& objects) {
    std::vector<std::shared_ptr<const engine::Backend>> backends;
    for (const nb::object& object : objects) {
        if (nb::isinstance<PyBackend>(object)) backends.push_back(nb::cast<PyBackend>(object).backend);
        else backends.push_back(backend_of(object));
    }
    return backends;
}

/// nicrt._core.NativeBackend
PyBackend native_backend(bool beside_onnxruntime) {
    engine::NativeOptions options;
    options.beside_onnxruntime = beside_onnxruntime;
    return {engine::make_native_backend(options)};
}

nb::list report(const PyEngine& self) {
    nb::list result;
    for (const engine::Graphs::Report& each : self.graphs->report())
        result.append(nb::make_tuple(each.graph, each.backend, each.refusals, each.calls, each.pixels));
    return result;
}

nb::object graph_of(const PyEngine& self, std::string_view name) {
    std::shared_ptr<const engine::Executable> executable;
    const Signals signals;
    with_python([&] { return self.graphs->get(name, executable, self.work(&signals)); });
    return python_of(*executable);
}

double workspace_of(const PyEngine& self, std::string_view name) {
    double bytes_per_pixel = 0;
    const Signals signals;
    with_python([&] { return self.graphs->workspace(name, bytes_per_pixel, self.work(&signals)); });
    return bytes_per_pixel;
}

PyOpened open(const PyEngine& self, const PyFile& file, std::uint64_t max_pixels, std::uint32_t max_stages) {
    PyOpened result{self.bundle(), file.file, {}};
    Limits limits;
    limits.max_pixels = max_pixels;
    limits.max_stages = max_stages;
    raise_if_error(program::open_file(self.bundle()->manifest(), file.file->header, limits, result.opened));
    return result;
}

Size size_of(const PyOpened& self, std::size_t stages) {
    require(stages >= 1 && stages <= self.opened.rounds.size(), "there are fewer stages");
    const program::Extent size = self.opened.rounds[stages - 1].size;
    return {size.height, size.width};
}

/// The graphs that decoding so many stages, and showing the last of them, runs: each once.
std::vector<std::string_view> graphs_of(const PyOpened& self, std::size_t stages) {
    require(stages >= 1 && stages <= self.opened.rounds.size(), "there are fewer stages");
    std::vector<std::string_view> graphs;
    const auto add = [&](const bundle::Run& run) {
        if (!run.enc && std::find(graphs.begin(), graphs.end(), run.graph) == graphs.end())
            graphs.push_back(run.graph);
    };
    for (std::size_t i = 0; i < stages; ++i)
        for (const bundle::Step& step : self.opened.rounds[i].stage->steps)
            if (const auto* const run = std::get_if<bundle::Run>(&step)) add(*run);
    for (const bundle::Run& run : self.opened.rounds[stages - 1].stage->show.runs) add(run);
    return graphs;
}

const bundle::Variant& variant_of(const PyOpened& self) {
    return *self.bundle->manifest().variants.find(self.opened.variant);
}

program::Request request_of(const PyOpened& opened, std::size_t stages, const std::optional<Edges>& region,
                            bool show) {
    require(stages >= 1 && stages <= opened.opened.rounds.size(), "there are fewer stages");
    program::Request request;
    const Header& header = opened.file->header;
    request.manifest = &opened.bundle->manifest();
    request.program = opened.opened.program;
    request.values = opened.opened.values;
    request.picture = {static_cast<std::int32_t>(header.height), static_cast<std::int32_t>(header.width)};
    request.rounds = static_cast<std::uint32_t>(stages);
    request.show = show;
    request.tile = header.tile_size;
    if (region) {
        request.region = program::Rect{(*region)[0], (*region)[1], (*region)[2], (*region)[3]};
    }
    return request;
}

using Trace = std::function<Status(std::string_view, double)>;

Trace trace_of(nb::object function) {
    if (function.is_none()) return {};
    const auto kept = std::make_shared<Kept>(std::move(function));
    return [kept](std::string_view name, double seconds) {
        return call_python([&] { kept->get()(nb::str(name.data(), name.size()), seconds); });
    };
}

/// watch: called with what every entropy step has read.
Status decode_watching(const PyEngine& self, const nb::object& watch, Execution& execution,
                       const program::Plan& plan) {
    std::uint32_t number = 0;
    bool done = false;
    while (true) {
        NICRT_RETURN_IF_ERROR(execution.step(number, done));
        if (done) return {};
        if (!std::holds_alternative<program::EntropyStep>(plan.steps[number].work)) continue;
        PyCoded read{{}, self.bundle(), self.threads, true};
        NICRT_RETURN_IF_ERROR(execution.coded(number, read.coded));
        NICRT_RETURN_IF_ERROR(call_python([&] { watch(std::move(read)); }));
    }
}

/// uint8 [height, width, 3], or None where nothing is to be shown.
nb::object decode(const PyEngine& self, const PyOpened& opened, nb::handle data, std::size_t stages,
                  const std::optional<Edges>& region, bool show, nb::object trace, nb::object watch) {
    program::Request request = request_of(opened, stages, region, show);
    request.window_edge = self.window_edge;
    const Buffer bytes(data);
    const auto budget = std::make_shared<Budget>(self.memory_bytes);
    Trace traced = trace_of(std::move(trace));
    engine::Array picture;
    const Signals signals;
    with_python([&]() -> Status {
        std::shared_ptr<const program::Plan> plan;
        NICRT_RETURN_IF_ERROR(self.plans->get(std::move(request), plan, self.work(&signals)));
        Execution::Input input;
        input.plan = plan.get();
        input.graphs = self.graphs.get();
        input.file = bytes.bytes();
        input.directory = opened.file.get();
        input.tile = opened.file->header.tile_size;
        input.work = self.work(&signals, budget.get());
        input.trace = std::move(traced);
        std::unique_ptr<Execution> execution;
        NICRT_RETURN_IF_ERROR(Execution::make(std::move(input), execution));
        NICRT_RETURN_IF_ERROR(watch.is_none() ? execution->run()
                                              : decode_watching(self, watch, *execution, *plan));
        return show ? execution->shown(picture) : Status();
    });
    return show ? to_numpy(picture, true) : nb::none();
}

/// encode: with an effort; else what is shown.
PyPlan plan(const PyEngine& self, std::string_view variant, const nb::dict& values, Size size,
            std::optional<std::int32_t> encode) {
    const auto owned = std::make_shared<Owned>();
    owned->bundle = self.bundle();
    owned->program = &program_of({self.bundle()}, variant);
    program::Request request;
    request.manifest = &owned->bundle->manifest();
    request.program = owned->program;
    request.values = values_of(*owned->program, values);
    request.picture = {size.first, size.second};
    request.window_edge = self.window_edge;
    if (encode) {
        request.direction = program::Direction::encode;
        request.effort = *encode;
        request.show = false;
    }
    const Signals signals;
    with_python([&] { return self.plans->get(std::move(request), owned->plan, self.work(&signals)); });
    return {owned};
}

}  // namespace

PyEngine::PyEngine(const PyBundle& bundle, const std::vector<nb::object>& backends, unsigned threads,
                   std::uint64_t memory_bytes, double load_seconds)
    : graphs(std::make_shared<engine::Graphs>(bundle.bundle, backends_of(backends), load_seconds,
                                              engine::ProofMarks{})),
      plans(std::make_shared<engine::Plans>(graphs, memory_bytes)),
      threads(on_threads(threads).threads),
      memory_bytes(memory_bytes) {}

void register_engine(nb::module_& module) {
    nb::class_<PyOpened>(module, "Opened", "A parsed file, held against the bundle that it names.")
        .def_prop_ro("variant", [](const PyOpened& self) { return self.opened.variant; })
        .def_prop_ro(
            "values", [](const PyOpened& self) { return self.opened.values; },
            "A list for each of the program's parameters, in its order.")
        .def_prop_ro("stages", [](const PyOpened& self) { return self.opened.rounds.size(); })
        .def_prop_ro(
            "picture_id", [](const PyOpened& self) { return variant_of(self).picture_id; },
            "Of the bundle's graphs, as 8 hexadecimal digits; the file's own may differ.")
        .def("graphs", &graphs_of, "stages"_a, "The graphs that decoding so many stages runs, each once.")
        .def("size", &size_of, "stages"_a, "Height and width of the picture that so many stages show.");
    nb::class_<PyBackend>(module, "NativeBackend", "Our own kernels, for native forms.")
        .def(nb::new_(&native_backend), "beside_onnxruntime"_a = false,
             "beside_onnxruntime: leave to it what it does faster on this processor.");
    nb::class_<PyEngine>(module, "Engine", "Runs the programs of one bundle, from any thread.")
        .def(nb::init<const PyBundle&, const std::vector<nb::object>&, unsigned, std::uint64_t, double>(),
             "bundle"_a, "backends"_a, nb::kw_only(), "threads"_a, "memory_bytes"_a, "load_seconds"_a,
             "backends: in order of preference, a NativeBackend or objects with `name`, `identity()` and "
             "`load(graph)`, which prove "
             "their exact graphs.")
        .def_ro("threads", &PyEngine::threads)
        .def_rw("window_edge", &PyEngine::window_edge,
                "Of the windows of graphs with a halo in pixels; 0: large pictures alone have windows, as "
                "large as "
                "memory allows.")
        .def("report", &report,
             "Of the graphs loaded so far: name, backend, why others were passed over, how often it has run, "
             "and on "
             "how many pixels in all.")
        .def("graph", &graph_of, "name"_a,
             "What a backend of Python's has loaded; None for one of the core's own.")
        .def("workspace", &workspace_of, "name"_a,
             "Bytes per pixel that a graph needs on the backend that runs it.")
        .def("open", &open, "file"_a, "max_pixels"_a, "max_stages"_a,
             "Raises WrongBundleError for a file of another bundle, CorruptError for one that does not fit "
             "it.")
        .def("decode", &decode, "opened"_a, "data"_a, "stages"_a, "region"_a = nb::none(), "show"_a = true,
             "trace"_a = nb::none(), "watch"_a = nb::none(),
             "uint8 [height, width, 3] of the region (top, left, bottom, right); None without `show`. trace: "
             "called with "
             "the name and the seconds of every step; watch: with what every entropy step has read, a Coded.")
        .def("plan", &plan, "variant"_a, "values"_a, "size"_a, nb::kw_only(), "encode"_a = nb::none(),
             "The plan for a picture of `size` (height, width): to encode with an effort, or to show it. "
             "Raises "
             "LimitError where it takes more memory than there may be.");
}

}  // namespace nicrt::python
