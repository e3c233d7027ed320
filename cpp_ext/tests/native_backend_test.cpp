// Native forms as graphs: what the parameters decide, batches, what is refused, proofs.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/exponential.hpp"
#include "backends/vectors.hpp"
#include "bundle_build.hpp"
#include "check.hpp"
#include "nicrt/build_id.hpp"
#include "nicrt/engine.hpp"
#include "nicrt/proofs.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::engine;
using bundle::Element;

/// Rounded to float32, the C library's but in the last place, and that nearly never.
void exponential_is_exact() {
    std::size_t others = 0, count = 0;
    for (double x = -110; x < 95; x += 0.000317, ++count) {
        const double mine = exponential(x), theirs = std::exp(x);
        CHECK(std::abs(mine - theirs) <= 4e-16 * theirs + 1e-300);
        if (static_cast<float>(mine) != static_cast<float>(theirs)) ++others;
    }
    CHECK(others * 1000000 <= count);
    for (const double x : {-745.1, -720.5, -708.4, 700.25, 709.7})
        CHECK(std::abs(exponential(x) - std::exp(x)) <= 4e-16 * std::exp(x) + 5e-324);
    constexpr double infinity = std::numeric_limits<double>::infinity();
    CHECK(exponential(infinity) == infinity && exponential(-infinity) == 0 && exponential(0) == 1);
    CHECK(exponential(1e300) == infinity && exponential(-1e300) == 0 &&
          std::isnan(exponential(std::nan(""))));
}

std::shared_ptr<const bundle::Bundle> small_bundle() {
    std::shared_ptr<const bundle::Bundle> opened;
    CHECK(bundle::Bundle::open(testing::source_of(testing::small_files()), opened).ok());
    return opened;
}

Named tensor(std::string_view port, Element dtype, std::vector<std::int64_t> shape) {
    Named made{port, {}};
    CHECK(Array::make(dtype, shape, nullptr, made.array).ok());
    return made;
}

Named wanted(std::string_view port, Element dtype, std::vector<std::int64_t> shape) {
    Named made{port, {}};
    made.array.dtype = dtype;
    made.array.shape = std::move(shape);
    return made;
}

/// The small bundle's picture: the latents themselves, halved where they are negative, clipped.
void a_chain_shows_each_picture_of_a_batch() {
    const auto opened = small_bundle();
    const auto backend = make_native_backend();
    CHECK(backend->name() == "native" && backend->proven_when_built());
    CHECK(backend->identity().find(build_id()) != std::string::npos && build_id().size() == 32);
    std::shared_ptr<const Executable> executable;
    bool other_kind = true;
    CHECK(backend->load(*opened, "show", executable, other_kind).ok() && !other_kind);
    CHECK(executable->workspace_bytes_per_pixel() == 1);

    Named in = tensor("y", Element::int32, {2, 3, 2, 5});
    for (int i = 0; i < 60; ++i) in.array.as<std::int32_t>()[i] = 7 * i - 100;
    Named out = wanted("picture", Element::uint8, {2, 2, 5, 3});
    Budget budget(1 << 30);
    CHECK(executable->run({&in, 1}, {&out, 1}, {nullptr, 1, nullptr, &budget}).ok());
    for (int n = 0; n < 2; ++n)
        for (int place = 0; place < 10; ++place)
            for (int c = 0; c < 3; ++c) {
                const int value = 7 * (n * 30 + c * 10 + place) - 100;
                CHECK(out.array.data[(n * 10 + place) * 3 + c] == std::clamp(value, 0, 255));
            }
    Named other = wanted("picture", Element::uint8, {2, 2, 5, 4});
    CHECK(executable->run({&in, 1}, {&other, 1}, {}).code() == Code::internal);
    Budget little(50);
    CHECK(executable->run({&in, 1}, {&out, 1}, {nullptr, 1, nullptr, &little}).code() == Code::limit);
    Control control;
    control.cancel();
    CHECK(executable->run({&in, 1}, {&out, 1}, {nullptr, 1, &control}).code() == Code::cancelled);
    CHECK(backend->load(*opened, "absent", executable, other_kind).code() == Code::invalid_argument);
}

bundle::Tensor stored(std::string_view name, Element dtype, std::vector<std::int32_t> shape,
                      const std::string& data) {
    return {name, dtype, std::move(shape), {data.begin(), data.end()}};
}

bundle::Graph network_graph(bool exact) {
    bundle::IntegerLayer hidden;
    hidden.weight = "w";
    hidden.bias = "b";
    hidden.multiplier = "m";
    hidden.row = "p";
    hidden.low = 0;
    hidden.high = 200;
    bundle::Head head;
    head.out = "index";
    head.weight = "v";
    head.bias = "c";
    head.multiplier = "k";
    head.index = bundle::IndexRule{1, 0.5, 0, 9, "p", 255, "p", {}};
    bundle::IntegerNetwork network;
    network.value = "z";
    network.hidden = {hidden};
    network.heads = {head};
    bundle::Graph graph;
    const bundle::Dimension batch{0, 1, "n", "n"}, h{0, 1, "h", "h"}, w{0, 1, "w", "w"};
    graph.inputs.items = {{"z", {Element::int32, {batch, {1, 1, "", ""}, h, w}, bundle::Pair{-3, 3}}},
                          {"p", {Element::int32, {{1, 1, "", ""}}, bundle::Pair{0, 1}}}};
    graph.outputs.items = {{"index", {Element::uint8, {batch, {1, 1, "", ""}, h, w}, {}}}};
    graph.native = bundle::NativeForm{};
    graph.native->operations = {network};
    graph.exact = exact;
    return graph;
}

std::vector<bundle::Tensor> network_weights(std::int32_t bias, float multiplier) {
    return {stored("w", Element::int8, {1, 1, 1, 1}, "\x02"),
            stored("b", Element::int32, {2, 1}, testing::bytes_of<std::int32_t>({7, bias})),
            stored("m", Element::float32, {2, 1}, testing::bytes_of<float>({1, multiplier})),
            stored("v", Element::int8, {1, 1, 1, 1}, "\x01"),
            stored("c", Element::int32, {1}, testing::bytes_of<std::int32_t>({0})),
            stored("k", Element::float32, {1}, testing::bytes_of<float>({1}))};
}

Status load(bundle::Graph graph, std::vector<bundle::Tensor> weights, NativeOptions options,
            std::shared_ptr<const Executable>& out, bool& other_kind) {
    return make_native_executable(std::move(graph), std::move(weights), nullptr, options, out, other_kind);
}

std::vector<NativeOptions> every_isa() {
    std::vector<NativeOptions> all;
    for (const auto isa :
         {native::IntegerIsa::scalar, native::IntegerIsa::avx2, native::IntegerIsa::avx512_vnni})
        if (native::integer_isa_available(isa)) all.push_back({native::Arithmetic::best, isa});
    return all;
}

/// (z * 2 + bias of row p) * multiplier, then floor((that + 1 - p) / 2), and 255 below p.
void a_network_follows_its_parameters() {
    for (const NativeOptions& options : every_isa()) {
        std::shared_ptr<const Executable> executable;
        bool other_kind = false;
        CHECK(load(network_graph(false), network_weights(5, 0.5F), options, executable, other_kind).ok());
        for (const int p : {0, 1, 1, 0}) {
            std::vector<Named> inputs{tensor("z", Element::int32, {2, 1, 1, 3}),
                                      tensor("p", Element::int32, {1})};
            for (int i = 0; i < 6; ++i) inputs[0].array.as<std::int32_t>()[i] = i - 3;
            *inputs[1].array.as<std::int32_t>() = p;
            Named out = wanted("index", Element::uint8, {2, 1, 1, 3});
            CHECK(executable->run(inputs, {&out, 1}, {&process_pool(), 2}).ok());
            for (int i = 0; i < 6; ++i) {
                const float sum = p == 0 ? 2 * (i - 3) + 7 : (2 * (i - 3) + 5) * 0.5F;
                const float v = std::clamp(std::nearbyint(sum), 0.0F, 200.0F);
                const float index = std::clamp(std::floor((v + 1 - p) / 2), 0.0F, 9.0F);
                CHECK(out.array.data[i] == (index < p ? 255 : static_cast<int>(index)));
            }
        }
    }
}

void what_kernels_cannot_do_is_another_kind() {
    std::shared_ptr<const Executable> executable;
    const auto other = [&](bundle::Graph graph, std::vector<bundle::Tensor> weights,
                           NativeOptions options = {}) {
        bool other_kind = false;
        const Status status = load(std::move(graph), std::move(weights), options, executable, other_kind);
        return status.code() == Code::unsupported && other_kind;
    };
    CHECK(other(network_graph(false), network_weights((1 << 30) + 1, 1)));
    CHECK(other(network_graph(false), network_weights(0, std::numeric_limits<float>::infinity())));
    bundle::Graph none = network_graph(false);
    none.native.reset();
    CHECK(other(none, {}));
    bundle::Graph two = network_graph(false);
    two.native->operations.push_back(two.native->operations.front());
    CHECK(other(two, network_weights(5, 1)));
    bundle::Graph range = network_graph(false);
    (*range.inputs.items[1].second.range)[1] = 1 << 24;  // there is no such row
    CHECK(other(range, network_weights(5, 1)));
}

/// Factors are float64 rounded once, and multiplied in float32.
void vectors_are_rounded_once() {
    std::vector<float> matrix;
    for (int i = 0; i < 20; ++i) matrix.push_back(std::sin(static_cast<float>(i)));
    const Weights weights(
        {stored("rows", Element::float32, {4, 5}, testing::bytes_of(matrix)),
         stored("column", Element::float32, {4, 1}, testing::bytes_of<float>({1, 2, 3, 4})),
         stored("one", Element::float32, {1}, testing::bytes_of<float>({1.5F})),
         stored("half", Element::float16, {5},
                testing::bytes_of<std::uint16_t>({0x3C00, 0xC100, 0x0001, 0x7C00, 0x83FF}))});
    std::vector<float> made;
    const auto of = [&](const bundle::Factors& factors, std::int32_t p, float without = 0) {
        CHECK(engine::vector(factors, 5, weights, {{"p", p}}, without, made).ok());
        return made;
    };
    CHECK(of({}, 0, 1) == std::vector<float>(5, 1.0F));
    CHECK(of({bundle::Constant{"one"}}, 0) == std::vector<float>(5, 1.5F));
    CHECK(of({bundle::Constant{"half"}}, 0) ==
          std::vector<float>({1, -2.5F, 0x1p-24F, std::numeric_limits<float>::infinity(), -1023 * 0x1p-24F}));
    for (std::int32_t p = 0; p < 4; ++p) {
        CHECK(of({bundle::Row{"column", "p"}}, p) == std::vector<float>(5, p + 1.0F));
        CHECK(std::equal(matrix.begin() + 5 * p, matrix.begin() + 5 * p + 5,
                         of({bundle::Row{"rows", "p"}}, p).begin()));
    }
    for (const std::int32_t p : {-1, 4, INT32_MAX})
        CHECK(engine::vector({bundle::Row{"rows", "p"}}, 5, weights, {{"p", p}}, 0, made).code() ==
              Code::invalid_argument);
    for (const std::int32_t p : {-128, -1, 0, 3, 128})
        CHECK(of({bundle::Exponential{"p", 0.0625, -0.3}}, p) ==
              std::vector<float>(5, static_cast<float>(std::exp(0.0625 * p - 0.3))));
    CHECK(of({bundle::Exponential{"p", 1e30, 0}}, INT32_MAX)[0] == std::numeric_limits<float>::infinity());
    CHECK(of({bundle::Exponential{"p", -1e30, 0}}, INT32_MAX)[0] == 0);
    for (const std::int32_t p : {-150, -100, -40, 0, 1, 50, 100, 233, 300, 350, 400, INT32_MAX, INT32_MIN}) {
        const std::vector<float> found = of({bundle::InterpolatedExponential{"rows", "p", 100}}, p);
        for (std::size_t c = 0; c < 5; ++c) {
            double sum = 0;
            for (std::size_t row = 0; row < 4; ++row)
                sum += std::max(0.0, 1 - std::abs(p / 100.0 - static_cast<double>(row))) *
                       double{matrix[5 * row + c]};
            CHECK(found[c] == static_cast<float>(std::exp(sum)));
        }
    }
    const std::vector<float> product =
        of({bundle::Constant{"one"}, bundle::Row{"column", "p"}, bundle::Exponential{"p", 0.1, 0}}, 2);
    CHECK(product[4] == 1.5F * 3.0F * static_cast<float>(std::exp(0.2)));
}

void proofs_are_held_to() {
    bundle::Graph graph = network_graph(true);
    bundle::Proof proof;
    proof.seed = 6;
    proof.sizes.items = {{"n", 2}, {"h", 3}, {"w", 4}};
    std::vector<Named> inputs;
    CHECK(proof_inputs(graph, proof, nullptr, inputs).ok() && inputs.size() == 2);
    CHECK(inputs[0].array.shape == std::vector<std::int64_t>({2, 1, 3, 4}));
    const std::int32_t first[] = {0, -3, 3, 2, 3, 1};  // as tests/independent_reader computes them
    CHECK(std::equal(std::begin(first), std::end(first), inputs[0].array.as<std::int32_t>()));
    std::shared_ptr<const Executable> executable;
    bool other_kind = false;
    for (const NativeOptions& options : every_isa()) {
        graph.proofs.clear();
        CHECK(load(graph, network_weights(5, 0.5F), options, executable, other_kind).ok());
        Named out = wanted("index", Element::uint8, {2, 1, 3, 4});
        CHECK(executable->run(inputs, {&out, 1}, {}).ok());
        std::string sha256;
        CHECK(outputs_sha256(graph, {&out, 1}, sha256).ok() && sha256.size() == 64);
        proof.sha256 = sha256;
        graph.proofs = {proof};
        CHECK(prove(graph, *executable, {}).ok());
        const Control over(Control::Clock::now());
        CHECK(prove(graph, *executable, {nullptr, 1, &over}).code() == Code::limit);
        graph.proofs[0].seed = 7;
        CHECK(prove(graph, *executable, {}).code() == Code::unsupported);
    }
    std::string none;
    CHECK(outputs_sha256(graph, {}, none).code() == Code::invalid_argument);
}

}  // namespace

int main() {
    exponential_is_exact();
    a_chain_shows_each_picture_of_a_batch();
    a_network_follows_its_parameters();
    what_kernels_cannot_do_is_another_kind();
    vectors_are_rounded_once();
    proofs_are_held_to();
}
