// Plans are run: a tiny bundle's files decoded by a callback in the place of a backend, and what ends that
// early.
#include "nicrt/engine.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "bundle_build.hpp"
#include "check.hpp"

namespace {

using namespace nicrt;
using engine::Array;
using engine::Execution;
using engine::Named;

constexpr std::uint32_t kHeight = 40, kWidth = 30, kTile = 16;

std::shared_ptr<const bundle::Bundle> small_bundle() {
    std::shared_ptr<const bundle::Bundle> bundle;
    CHECK(bundle::Bundle::open(testing::source_of(testing::small_files()), bundle).ok());
    return bundle;
}

std::int32_t symbol(std::size_t place) { return static_cast<std::int32_t>(place * 7 % 3) - 1; }

std::vector<std::uint8_t> small_file(const bundle::Bundle& bundle) {
    const TensorShape shape{3, kHeight, kWidth};
    std::vector<std::int32_t> symbols(shape.places());
    for (std::size_t i = 0; i < symbols.size(); ++i) symbols[i] = symbol(i);
    std::shared_ptr<const bundle::ChannelTables> tables;
    CHECK(bundle.codebook("g", std::array{0}, tables).ok());
    EncodedStream stream;
    CHECK(encode_stream(*tables->codebook, {tables->channels.data(), true}, symbols.data(), shape,
                        {kTile, {}}, kCompactSymbolsPerLane, stream)
              .ok());
    Header header;
    header.symbol_id = {0xd0, 0xbd, 0x8b, 0xcf, 0xfb, 0x94, 0x14, 0xd5};
    header.picture_id = {0x63, 0x7e, 0xe1, 0x86};
    header.width = kWidth;
    header.height = kHeight;
    header.tile_size = kTile;
    header.stages.resize(1);
    header.stages[0].streams.push_back(stream.directory);
    const std::array<std::span<const std::uint8_t>, 1> payload{stream.bytes};
    std::vector<std::uint8_t> file;
    CHECK(write(header, payload, file).ok());
    return file;
}

/// Shows 10 times each symbol, and 100.
Status show(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) {
    const Array& symbols = inputs[0].array;
    Array& picture = outputs[0].array;
    NICRT_RETURN_IF_ERROR(Array::make(picture.dtype, std::vector(picture.shape), work.budget, picture));
    const auto plane = static_cast<std::size_t>(symbols.shape[2] * symbols.shape[3]);
    for (std::size_t i = 0; i < plane; ++i)
        for (std::size_t c = 0; c < 3; ++c)
            picture.data[3 * i + c] =
                static_cast<std::uint8_t>(100 + 10 * symbols.as<std::int32_t>()[c * plane + i]);
    return {};
}

using Function = std::function<Status(std::span<const Named>, std::span<Named>, const Work&)>;

class Called final : public engine::Executable {
public:
    explicit Called(Function function) : function_(std::move(function)) {}
    Status run(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const override {
        return function_(inputs, outputs, work);
    }

private:
    Function function_;
};

std::shared_ptr<const engine::Backend> backend_of(std::string name, Function function) {
    engine::Callbacks callbacks;
    callbacks.name = std::move(name);
    callbacks.identity = [] { return std::string("a test"); };
    callbacks.load = [function](std::string_view, std::shared_ptr<const engine::Executable>& out, bool&) {
        out = std::make_shared<Called>(function);
        return Status();
    };
    return engine::make_callback_backend(std::move(callbacks));
}

std::shared_ptr<const engine::Backend> refusing(std::string name, Code code, bool is_other_kind) {
    engine::Callbacks callbacks;
    callbacks.name = std::move(name);
    callbacks.identity = [] { return std::string("a test"); };
    callbacks.load = [=](std::string_view, std::shared_ptr<const engine::Executable>&, bool& other_kind) {
        other_kind = is_other_kind;
        return Status(code, "not this one");
    };
    return engine::make_callback_backend(std::move(callbacks));
}

/// Files of the small bundle, decoded by one function.
struct Decoder {
    std::shared_ptr<const bundle::Bundle> bundle = small_bundle();
    std::vector<std::uint8_t> bytes = small_file(*bundle);
    File file;
    program::Opened opened;
    std::shared_ptr<engine::Graphs> graphs;
    engine::Plans plans;

    explicit Decoder(Function function)
        : graphs(std::make_shared<engine::Graphs>(
              bundle, std::vector{backend_of("test", std::move(function))}, 60, engine::ProofMarks{})),
          plans(graphs, std::uint64_t{1} << 30) {
        CHECK(parse_header(bytes, {}, file).ok());
        CHECK(program::open_file(bundle->manifest(), file.header, {}, opened).ok());
    }

    std::shared_ptr<const program::Plan> plan(std::optional<program::Rect> region = std::nullopt) {
        program::Request request;
        request.manifest = &bundle->manifest();
        request.program = opened.program;
        request.values = opened.values;
        request.picture = {kHeight, kWidth};
        request.tile = kTile;
        request.region = region;
        std::shared_ptr<const program::Plan> made;
        CHECK(plans.get(request, made, {}).ok());
        return made;
    }

    Status decode(const program::Plan& plan, const Work& work, Array& picture) {
        Execution::Input input;
        input.plan = &plan;
        input.graphs = graphs.get();
        input.file = bytes;
        input.directory = &file;
        input.tile = kTile;
        input.work = work;
        std::unique_ptr<Execution> execution;
        NICRT_RETURN_IF_ERROR(Execution::make(std::move(input), execution));
        NICRT_RETURN_IF_ERROR(execution->run());
        return execution->shown(picture);
    }
};

std::uint8_t wanted(std::size_t y, std::size_t x, std::size_t c) {
    return static_cast<std::uint8_t>(100 + 10 * symbol((c * kHeight + y) * kWidth + x));
}

void check_picture(const Array& picture, const program::Rect& rect) {
    CHECK(picture.shape == std::vector<std::int64_t>{rect.height(), rect.width(), 3});
    std::size_t place = 0;
    for (std::int32_t y = rect.top; y < rect.bottom; ++y)
        for (std::int32_t x = rect.left; x < rect.right; ++x)
            for (std::size_t c = 0; c < 3; ++c)
                CHECK(picture.data[place++] ==
                      wanted(static_cast<std::size_t>(y), static_cast<std::size_t>(x), c));
}

void check_whole_and_regions() {
    Decoder decoder(show);
    for (const unsigned threads : {1U, 4U}) {
        const auto pool = make_pool(threads);
        Budget budget(1 << 20);
        Array picture;
        CHECK(decoder.decode(*decoder.plan(), {pool.get(), threads, nullptr, &budget}, picture).ok());
        check_picture(picture, program::Rect::of({kHeight, kWidth}));
        CHECK(budget.held() <= picture.bytes() && budget.most_held() > 0);
        picture = {};
        CHECK(budget.held() == 0);
        const program::Rect region{17, 3, 31, 9};
        CHECK(decoder.decode(*decoder.plan(region), {pool.get(), threads, nullptr, &budget}, picture).ok());
        check_picture(picture, region);
    }
    CHECK(decoder.plan() == decoder.plan());  // kept for the next file of that size
}

/// The first step alone: its tensor is there until the next step.
void check_steps() {
    Decoder decoder(show);
    const auto plan = decoder.plan();
    Execution::Input input;
    input.plan = plan.get();
    input.graphs = decoder.graphs.get();
    input.file = decoder.bytes;
    input.directory = &decoder.file;
    input.tile = kTile;
    std::vector<std::string> told;
    input.trace = [&](std::string_view name, double) {
        told.emplace_back(name);
        return Status();
    };
    std::unique_ptr<Execution> execution;
    CHECK(Execution::make(std::move(input), execution).ok());
    std::uint32_t number = 9;
    bool done = true;
    Array tensor;
    const program::Tensor* planned = nullptr;
    CHECK(execution->tensor("y", tensor, planned).code() == Code::invalid_argument);
    CHECK(execution->step(number, done).ok() && number == 0 && !done);
    CHECK(execution->tensor("y", tensor, planned).ok() && tensor.as<std::int32_t>()[5] == symbol(5));
    CHECK(execution->change("y", tensor, planned).ok());
    tensor.as<std::int32_t>()[5] = 4;
    std::vector<Array> outputs;
    CHECK(execution->evaluate(*plan, 1, "show", program::Rect::of({kHeight, kWidth}), {}, outputs).ok());
    CHECK(outputs[0].data[5 * 3] == 140);
    CHECK(execution->evaluate(*plan, 0, "show", program::Rect::of({1, 1}), {}, outputs).code() ==
          Code::invalid_argument);
    CHECK(execution->run().ok());
    Array picture;
    CHECK(execution->shown(picture).ok() && picture.data[5 * 3] == 140);
    CHECK(told == std::vector<std::string>({"entropy y", "graph show", "graph show"}));
}

/// What a run has taken is given back, whatever ends it.
void check_ends() {
    const auto failing = [](std::span<const Named>, std::span<Named>, const Work&) {
        return Status(Code::internal, "it broke");
    };
    Array picture;
    {
        Decoder decoder(failing);
        Budget budget(1 << 20);
        const Status status = decoder.decode(*decoder.plan(), {nullptr, 1, nullptr, &budget}, picture);
        CHECK(status.code() == Code::internal && status.message() == "it broke" && budget.held() == 0);
    }
    Decoder decoder(show);
    for (std::uint64_t bytes = 0; bytes < 20000; bytes += 999) {  // the symbols alone have 14 400
        Budget budget(bytes);
        const Status status = decoder.decode(*decoder.plan(), {nullptr, 1, nullptr, &budget}, picture);
        CHECK(status.ok() == (bytes >= 18000) && (status.ok() || status.code() == Code::limit));
        picture = {};
        CHECK(budget.held() == 0 && budget.most_held() <= bytes);
    }
    Decoder other([](std::span<const Named>, std::span<Named> outputs, const Work&) {
        return Array::make(bundle::Element::int32, std::array<std::int64_t, 1>{1}, nullptr, outputs[0].array);
    });
    CHECK(other.decode(*other.plan(), {}, picture).code() == Code::unsupported);
    decoder.bytes.back() ^= 1;
    CHECK(decoder.decode(*decoder.plan(), {}, picture).code() == Code::corrupt);
}

void check_cancelled() {
    std::atomic<bool> inside{false};
    Decoder decoder([&](std::span<const Named>, std::span<Named>, const Work& work) {
        inside = true;
        while (!work.control->ended()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return work.check();
    });
    const auto plan = decoder.plan();
    Control control;
    Budget budget(1 << 20);
    std::thread canceller([&] {
        while (!inside) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        control.cancel();
    });
    Array picture;
    CHECK(decoder.decode(*plan, {nullptr, 1, &control, &budget}, picture).code() == Code::cancelled);
    canceller.join();
    CHECK(budget.held() == 0);
    inside = false;
    CHECK(decoder.decode(*plan, {nullptr, 1, &control, &budget}, picture).code() == Code::cancelled &&
          !inside);
    const Control late(Control::Clock::now());
    CHECK(decoder.decode(*plan, {nullptr, 1, &late, &budget}, picture).code() == Code::limit && !inside);
}

void check_many_threads() {
    Decoder decoder(show);
    const auto pool = make_pool(3);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int turn = 0; turn < 20; ++turn) {
                Budget budget(1 << 20);
                Array picture;
                CHECK(decoder.decode(*decoder.plan(), {pool.get(), 3, nullptr, &budget}, picture).ok());
                check_picture(picture, program::Rect::of({kHeight, kWidth}));
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(decoder.graphs->report()[0].calls == 80);
}

void check_backends() {
    const auto bundle = small_bundle();
    const auto graphs_of = [&](std::vector<std::shared_ptr<const engine::Backend>> backends,
                               double seconds = 60) {
        return engine::Graphs(bundle, std::move(backends), seconds, {});
    };
    std::shared_ptr<const engine::Executable> executable;
    {
        auto graphs = graphs_of({refusing("first", Code::unsupported, true),
                                 refusing("second", Code::unsupported, false), backend_of("third", show)});
        CHECK(graphs.report().empty());
        CHECK(graphs.get("show", executable, {}).ok());
        const auto report = graphs.report();
        CHECK(report.size() == 1 && report[0].graph == "show" && report[0].backend == "third");
        CHECK(report[0].refusals == std::vector<std::string>{"second: not this one"});
        double bytes_per_pixel = 1;
        CHECK(graphs.workspace("show", bytes_per_pixel, {}).ok() && bytes_per_pixel == 0);
        CHECK(graphs.get("nothing", executable, {}).code() == Code::invalid_argument);
    }
    auto none = graphs_of({refusing("only", Code::unsupported, false)});
    const Status status = none.get("show", executable, {});
    CHECK(status.message() == "no backend can run graph 'show' of this bundle: only: not this one");
    auto fatal = graphs_of({refusing("only", Code::limit, false), backend_of("next", show)});
    CHECK(fatal.get("show", executable, {}).code() == Code::limit);
    auto late = graphs_of({backend_of("test", show)}, 0);
    CHECK(late.get("show", executable, {}).code() == Code::limit);
}

/// A refusal is no reason to take the other form of a graph whose parts are not the manifest's.
void check_bad_parts() {
    testing::Files files = testing::small_files();
    files.at("w")[files.at("w").size() - 40] ^= 1;
    std::shared_ptr<const bundle::Bundle> bundle;
    CHECK(bundle::Bundle::open(testing::source_of(std::move(files)), bundle).ok());
    engine::Graphs graphs(bundle, {refusing("first", Code::unsupported, false), backend_of("second", show)},
                          60, {});
    std::shared_ptr<const engine::Executable> executable;
    CHECK(graphs.get("show", executable, {}).code() == Code::unsupported && graphs.report().empty());
}

}  // namespace

int main() {
    check_whole_and_regions();
    check_steps();
    check_ends();
    check_cancelled();
    check_many_threads();
    check_backends();
    check_bad_parts();
}
