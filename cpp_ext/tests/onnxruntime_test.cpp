// The ONNX Runtime backend, on graphs of the shipped bundles: `onnxruntime_test ENGINES`. The environment
// variable NICRT_ONNXRUNTIME names the library; without it the test is skipped.
//
// `onnxruntime_test run` runs graphs for other tests: it reads the lines described at `run_asked` from
// standard input.
#include "nicrt/onnxruntime.hpp"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include "bundle_build.hpp"
#include "check.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::engine;
using bundle::Bundle;
using bundle::Element;
using BackendPtr = std::shared_ptr<const Backend>;
using ExecutablePtr = std::shared_ptr<const Executable>;
using Clock = Control::Clock;

constexpr int kSkipped = 77;
constexpr std::uint64_t kMiB = 1 << 20;

std::string g_library, g_engines;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void expect(const Status& status, Code code, const std::string& words) {
    const bool as_expected = status.code() == code && status.message().find(words) != std::string::npos &&
                             status.message().find('\n') == std::string::npos;
    if (!as_expected)
        std::fprintf(stderr, "said: %d %s; not: %s\n", static_cast<int>(status.code()),
                     status.message().c_str(), words.c_str());
    CHECK(as_expected);
}

void succeed(const Status& status) { expect(status, Code::ok, ""); }

std::shared_ptr<const Bundle> open_bundle(const std::string& path) {
    std::shared_ptr<const Bundle> opened;
    succeed(Bundle::open_path(path, opened));
    return opened;
}

BackendPtr backend(const OnnxRuntimeOptions& options) {
    BackendPtr made;
    succeed(make_onnxruntime_backend(options, made));
    return made;
}

ExecutablePtr load(const Backend& by, const Bundle& bundle, std::string_view graph) {
    ExecutablePtr loaded;
    bool other_kind = true;
    succeed(by.load(bundle, graph, loaded, other_kind));
    CHECK(!other_kind);
    return loaded;
}

Array array_of(const bundle::Port& port, std::int64_t height, std::int64_t width) {
    std::vector<std::int64_t> shape;
    for (const bundle::Dimension& dimension : port.dims) {
        const std::int64_t extent = dimension.symbol == "h" ? height : dimension.symbol == "w" ? width : 1;
        shape.push_back(dimension.extent > 0 ? dimension.extent : dimension.factor * extent);
    }
    Array made;
    made.dtype = port.dtype;
    made.shape = shape;
    return made;
}

/// Inputs and outputs of a graph whose places are h x w times a factor; input values are small integers.
struct Case {
    std::vector<Named> inputs, outputs;

    Case(const bundle::Graph& graph, std::int64_t height, std::int64_t width) {
        for (const auto& [name, port] : graph.inputs) {
            Array array = array_of(port, height, width);
            const std::vector<std::int64_t> shape = array.shape;
            succeed(Array::make(port.dtype, shape, nullptr, array));
            fill(array);
            inputs.push_back({name, array});
        }
        for (const auto& [name, port] : graph.outputs)
            outputs.push_back({name, array_of(port, height, width)});
    }

    static void fill(Array& array) {
        const std::size_t count = array.bytes() / bundle::bytes_of(array.dtype);
        for (std::size_t i = 0; i < count; ++i) {
            const int value = static_cast<int>(i % 7) - 3;
            if (array.dtype == Element::int32) reinterpret_cast<std::int32_t*>(array.data)[i] = value;
            else if (array.dtype == Element::float32)
                reinterpret_cast<float*>(array.data)[i] = float(value) / 4;
            else CHECK(!"another type");
        }
    }

    Status run(const Executable& executable, const Work& work = {}) {
        return executable.run(inputs, outputs, work);
    }

    [[nodiscard]] std::string result() const {
        const Array& array = outputs.front().array;
        return {reinterpret_cast<const char*>(array.data), array.bytes()};
    }
};

void check_refused_options() {
    BackendPtr made;
    const auto refused = [&](OnnxRuntimeOptions options, Code code, const std::string& words) {
        expect(make_onnxruntime_backend(std::move(options), made), code, words);
        CHECK(made == nullptr);
    };
    refused({.library = "libonnxruntime.so"}, Code::invalid_argument, "has no folder");
    refused({.library = ""}, Code::invalid_argument, "has no folder");
    refused({.library = g_library, .threads = 0}, Code::invalid_argument, "1 to 1024 threads");
    refused({.library = g_library, .load_seconds = 0}, Code::invalid_argument, "positive");
    const char* const disable = "ORT_DISABLE_TELEMETRY";
    for (const char* const value : {"0", ""}) {
        CHECK(::setenv(disable, value, 1) == 0);
        refused({.library = g_library}, Code::invalid_argument, "ORT_DISABLE_TELEMETRY=1");
    }
    CHECK(::unsetenv(disable) == 0);
    refused({.library = g_library}, Code::invalid_argument, "ORT_DISABLE_TELEMETRY=1");
    // who allows telemetry gets as far as the library, which is not there
    refused({.library = "/nowhere/lib.so", .allow_telemetry = true}, Code::unsupported,
            "no library /nowhere/lib.so");
    CHECK(::setenv(disable, "1", 1) == 0);
}

void check_no_libraries() {
    namespace fs = std::filesystem;
    std::string name = (fs::temp_directory_path() / "nicrt-onnxruntime-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr);
    const fs::path folder(name);
    std::ofstream(folder / "text.so") << "no library\n";
    std::ofstream(folder / "empty.so");
    Dl_info other;
    CHECK(::dladdr(::dlsym(RTLD_DEFAULT, "getppid"), &other) != 0);
    BackendPtr made;
    for (const auto& [path, words] :
         std::map<std::string, std::string>{{name, "there is no library"},
                                            {name + "/nothing.so", "there is no library"},
                                            {"/dev/zero", "there is no library"},
                                            {name + "/text.so", "cannot open the library"},
                                            {name + "/empty.so", "cannot open the library"},
                                            {other.dli_fname, "has no OrtGetApiBase"}})
        expect(make_onnxruntime_backend({.library = path}, made), Code::unsupported, words);
    fs::remove_all(folder);
}

void check_loading() {
    const BackendPtr made = backend({.library = g_library});
    CHECK(made->name() == "onnxruntime" && !made->proven_when_built());
    CHECK(made->identity().starts_with("onnxruntime 1.") &&
          made->identity().find(" cpu all ") != std::string::npos);
    ExecutablePtr loaded;
    bool other_kind = true;
    const auto slim = open_bundle(g_engines + "/slim");
    expect(made->load(*slim, "nothing", loaded, other_kind), Code::invalid_argument, "no graph");
    std::shared_ptr<const Bundle> native;
    succeed(Bundle::open(testing::source_of(testing::small_files()), native));
    other_kind = false;
    expect(made->load(*native, "show", loaded, other_kind), Code::unsupported, "no ONNX form");
    CHECK(other_kind && loaded == nullptr);
    expect(backend({.library = g_library, .load_seconds = 1e-6})
               ->load(*slim, "synthesis_w192", loaded, other_kind),
           Code::limit, "to load");
}

void check_threads_and_failures() {
    const auto slim = open_bundle(g_engines + "/slim");
    const bundle::Graph& graph = *slim->manifest().graphs.find("synthesis_w48");
    Case one(graph, 4, 3), many(graph, 4, 3);
    succeed(one.run(*load(*backend({.library = g_library}), *slim, "synthesis_w48")));
    const ExecutablePtr loaded = load(*backend({.library = g_library, .threads = 3}), *slim, "synthesis_w48");
    succeed(many.run(*loaded));
    CHECK(one.result() == many.result());
    Case wrong(graph, 4, 3);
    wrong.outputs.front().array.shape[1] += 1;
    expect(wrong.run(*loaded), Code::internal, "ONNX Runtime failed: ");
    std::swap(wrong.inputs.front().port, wrong.inputs.back().port);
    expect(wrong.run(*loaded), Code::internal, "ONNX Runtime failed: ");
    Budget budget(1000);
    expect(Case(graph, 4, 3).run(*loaded, {.budget = &budget}), Code::limit, "more memory is needed");
    CHECK(budget.held() == 0);
}

/// In the child of a fork() a graph with threads of its own says that it cannot run, one without runs.
void check_fork() {
    const auto slim = open_bundle(g_engines + "/slim");
    const bundle::Graph& graph = *slim->manifest().graphs.find("synthesis_w48");
    const auto many = backend({.library = g_library, .threads = 2});
    const ExecutablePtr alone = load(*backend({.library = g_library}), *slim, "synthesis_w48");
    const ExecutablePtr threaded = load(*many, *slim, "synthesis_w48");
    Case one(graph, 4, 3), two(graph, 4, 3);
    succeed(one.run(*threaded));
    const std::string expected = one.result();
    const pid_t child = ::fork();
    if (child == 0) {
        expect(two.run(*threaded), Code::invalid_argument, "child of a fork()");
        succeed(one.run(*alone));
        succeed(two.run(*load(*many, *slim, "synthesis_w48")));
        ::_exit(one.result() == expected && two.result() == expected ? 0 : 1);
    }
    int status = 1;
    CHECK(child > 0 && ::waitpid(child, &status, 0) == child && status == 0);
    succeed(two.run(*threaded));
}

std::uint64_t peak_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) << 10;
    return 0;
}

/// A graph that asks for more than it may is stopped before it has it; what fits still runs.
void check_memory() {
    const auto slim = open_bundle(g_engines + "/slim");
    const bundle::Graph& graph = *slim->manifest().graphs.find("synthesis_w192");
    const ExecutablePtr capped =
        load(*backend({.library = g_library, .memory_bytes = 32 * kMiB}), *slim, "synthesis_w192");
    Case large(graph, 48, 48), small(graph, 2, 2);
    const std::uint64_t before = peak_bytes();
    expect(large.run(*capped), Code::limit, "needs more than the limit of 32 MiB");
    const std::uint64_t grown = peak_bytes() - before;
    succeed(small.run(*capped));
    CHECK(grown < 120 * kMiB);  // its arena, which also has eight times the model, and the output
    succeed(large.run(*load(*backend({.library = g_library}), *slim, "synthesis_w192")));
    if (before > 0) CHECK(peak_bytes() - before > 200 * kMiB);
}

/// Runs that each fit alone in what there is, all at once.
void check_side_by_side() {
    const auto slim = open_bundle(g_engines + "/slim");
    const bundle::Graph& graph = *slim->manifest().graphs.find("synthesis_w192");
    const ExecutablePtr loaded =
        load(*backend({.library = g_library, .memory_bytes = 64 * kMiB}), *slim, "synthesis_w192");
    std::vector<Case> cases;
    for (int i = 0; i < 4; ++i) cases.emplace_back(graph, 24, 24);
    std::vector<Status> results(cases.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < cases.size(); ++i)
        threads.emplace_back([&, i] { results[i] = cases[i].run(*loaded); });
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < cases.size(); ++i) {
        succeed(results[i]);
        CHECK(cases[i].result() == cases[0].result());
    }
}

/// While a graph runs, at the end of the operator that it is at: one that had run to its end would be ok.
void check_cancel() {
    const auto slim = open_bundle(g_engines + "/slim");
    const bundle::Graph& graph = *slim->manifest().graphs.find("synthesis_w192");
    const ExecutablePtr loaded = load(*backend({.library = g_library}), *slim, "synthesis_w192");
    Case large(graph, 48, 48);
    const Clock::time_point start = Clock::now();
    Control never;
    succeed(large.run(*loaded, {.control = &never}));
    const double whole = seconds_since(start);

    Control control;
    std::thread canceller([&] {
        std::this_thread::sleep_for(std::chrono::duration<double>(whole / 8));
        control.cancel();
    });
    const Clock::time_point again = Clock::now();
    expect(large.run(*loaded, {.control = &control}), Code::cancelled, "cancelled");
    const double taken = seconds_since(again);
    canceller.join();
    std::printf("cancelled after %.0f ms, ended after %.0f of %.0f ms\n", 125 * whole, 1e3 * taken,
                1e3 * whole);

    const Control late(Clock::now() + std::chrono::milliseconds(static_cast<int>(125 * whole)));
    expect(large.run(*loaded, {.control = &late}), Code::limit, "time");
    expect(large.run(*loaded, {.control = &control}), Code::cancelled, "cancelled");
    succeed(large.run(*loaded));
}

Element element_named(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(Element::uint8); ++i)
        if (bundle::name_of(static_cast<Element>(i)) == name) return static_cast<Element>(i);
    CHECK(!"a type of NumPy's");
    return Element::uint8;
}

/// "in NAME DTYPE FILE DIMENSION..", "out .." as well
Named port_of(std::istringstream& line, std::string& file) {
    std::string dtype;
    static std::vector<std::unique_ptr<std::string>> names;
    names.push_back(std::make_unique<std::string>());
    Named made;
    line >> *names.back() >> dtype >> file;
    made.port = *names.back();
    made.array.dtype = element_named(dtype);
    for (std::int64_t extent = 0; line >> extent;) made.array.shape.push_back(extent);
    return made;
}

/// Loads and runs a graph for each line "run BUNDLE GRAPH" that ends the lines of its ports: "in NAME DTYPE
/// FILE DIMENSION.." of little-endian values, and "out .." of files to be written. Says "CODE MESSAGE" for
/// each.
int run_asked() {
    const BackendPtr made = backend({.library = g_library});
    std::vector<Named> inputs, outputs;
    std::vector<std::string> files;
    for (std::string text; std::getline(std::cin, text);) {
        std::istringstream line(text);
        std::string word, file;
        line >> word;
        if (word == "in") {
            inputs.push_back(port_of(line, file));
            Array& array = inputs.back().array;
            const std::vector<std::int64_t> shape = array.shape;
            succeed(Array::make(array.dtype, shape, nullptr, array));
            CHECK(
                std::ifstream(file, std::ios::binary)
                    .read(reinterpret_cast<char*>(array.data), static_cast<std::streamsize>(array.bytes())));
        } else if (word == "out") {
            outputs.push_back(port_of(line, file));
            files.push_back(file);
        } else {
            std::string path, graph;
            line >> path >> graph;
            const auto opened = open_bundle(path);
            ExecutablePtr loaded;
            bool other_kind = false;
            Status status = made->load(*opened, graph, loaded, other_kind);
            if (status.ok()) status = loaded->run(inputs, outputs, {});
            std::cout << static_cast<int>(status.code()) << ' ' << status.message() << '\n';
            for (std::size_t i = 0; status.ok() && i < files.size(); ++i)
                std::ofstream(files[i], std::ios::binary)
                    .write(reinterpret_cast<const char*>(outputs[i].array.data),
                           static_cast<std::streamsize>(outputs[i].array.bytes()));
            inputs.clear(), outputs.clear(), files.clear();
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const char* const library = std::getenv("NICRT_ONNXRUNTIME");
    if (library == nullptr || argc < 2) {
        std::puts("skipped: NICRT_ONNXRUNTIME names no library, or there is no folder of bundles");
        return kSkipped;
    }
    g_library = library;
    if (std::string_view(argv[1]) == "run") return run_asked();
    g_engines = argv[1];
    check_refused_options();
    check_no_libraries();
    check_loading();
    check_threads_and_failures();
    check_fork();
    check_memory();
    check_side_by_side();
    check_cancel();
    std::puts("onnxruntime_test: all passed");
    return 0;
}
