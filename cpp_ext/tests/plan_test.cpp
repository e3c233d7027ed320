// Plans: rounds, shapes, windows, regions, lives of tensors, files and choices, of a program that fits in a
// page.
#include "nicrt/plan.hpp"

#include <algorithm>
#include <string>

#include "bundle/manifest.hpp"
#include "check.hpp"

namespace {

using namespace nicrt;
using program::Direction;
using program::EntropyStep;
using program::GraphStep;
using program::Plan;
using program::Rect;
using program::Request;

/// Two stages: one for the picture, with windows; one for each of a list of sizes, in bands, which shows a
/// step of its own.
constexpr std::string_view kManifest =
    R"({"bundle_format":2,"name":"p","summary":"","license":"x","color":"sRGB","tables":{"file":"t","groups":{"g":)"
    R"("0000000000000000000000000000000000000000000000000000000000000000"}},"graphs":{"look":{"inputs":{"x":{"dtype":)"
    R"("float32","dims":["n",3,"8h","8w"]},"q":{"dtype":"int32","dims":[1],"range":[0,9]}},"outputs":{"y":{"dtype":"int32",)"
    R"("dims":["n",4,"h","w"]}},"encoder":true},"draw":{"inputs":{"y":{"dtype":"int32","dims":["n",4,"h","w"]}},"outputs":{)"
    R"("p":{"dtype":"float32","dims":["n",3,"8h","8w"]}},"halo":24,"workspace_bytes_per_pixel":300},"rows":{"inputs":{)"
    R"("p":{"dtype":"float32","dims":["n",3,"a","b"]},"r":{"dtype":"int32","dims":["r"]},"s":{"dtype":"int32","dims":[2]},)"
    R"("k":{"dtype":"int32","dims":[1]}},"outputs":{"p":{"dtype":"float32","dims":["n",3,"r","b"]}}},"show":{"inputs":{)"
    R"("p":{"dtype":"float32","dims":["n",3,"h","w"]}},"outputs":{"o":{"dtype":"uint8","dims":["n","h","w",3]}},"halo":0}},)"
    R"("variants":{"w7":{"symbol_id":"0011223344556677","picture_id":"00112233","program":{"parameters":[{"name":"q",)"
    R"("min":0,"max":9,"default":5},{"name":"sizes","min":1,"max":1,"default":1,"scales":[0.5]},{"name":"k","min":0,)"
    R"("max":9,"default":1,"length":2}],"stages":[{"align":16,"tile":64,"each":"sizes","steps":[{"op":"graph","graph":"look",)"
    R"("in":{"x":"@x","q":"$q"},"out":{"y":"y"},"enc":true},{"op":"entropy","out":"y","channels":4,"stride":8,"tables":"g",)"
    R"("by":"channel"},{"op":"graph","graph":"draw","in":{"y":"y"},"out":{"p":"p"}},{"op":"graph","graph":"rows","in":{)"
    R"("p":"p","r":"@rows","s":"@size","k":"$k[i]"},"out":{"p":"p"},"bands":12}],"show":{"op":"graph","graph":"show",)"
    R"("in":{"p":"p"},"out":{"o":"o"}}},{"align":16,"tile":64,"steps":[{"op":"graph","graph":"look","in":{"x":"@x",)"
    R"("q":"$q"},"out":{"y":"y"},"enc":true},{"op":"entropy","out":"y","channels":4,"stride":8,"tables":"g","by":"channel"},)"
    R"({"op":"graph","graph":"draw","in":{"y":"y"},"out":{"p":"p"}}],"show":{"op":"graph","graph":"show","in":{"p":"p"},)"
    R"("out":{"o":"o"}}}]}}},"quality":[{"quality":0,"variant":"w7","parameters":{"q":0}},{"quality":100,"variant":"w7",)"
    R"("parameters":{"q":9}}]})";

struct Fixture {
    bundle::Manifest manifest;
    const bundle::Program* program = nullptr;

    Fixture() {
        CHECK(bundle::read_manifest(std::string(kManifest), manifest).ok());
        program = &manifest.variants.items.front().second.program;
    }

    [[nodiscard]] Request request(std::int32_t height, std::int32_t width) const {
        Request request;
        request.manifest = &manifest;
        request.program = program;
        request.picture = {height, width};
        request.values = program::default_values(*program, request.picture);
        return request;
    }
};

Plan planned(const Request& request) {
    Plan plan;
    CHECK(program::make_plan(request, plan).ok());
    return plan;
}

const GraphStep& graph(const Plan& plan, std::size_t step) {
    return std::get<GraphStep>(plan.steps[step].work);
}

void check_rounds(const Fixture& fixture) {
    const Plan plan = planned(fixture.request(101, 37));
    CHECK(plan.rounds.size() == 2 && plan.steps.size() == 6);
    CHECK((plan.rounds[0].size == program::Extent{50, 18}));  // ties to even
    CHECK((plan.rounds[0].padded == program::Extent{64, 32} &&
           plan.rounds[1].padded == program::Extent{112, 48}));
    const GraphStep& rows = graph(plan, 2);
    CHECK(rows.banded && rows.calls.size() == 6 && rows.calls.back().end_row == 64);
    CHECK(rows.inputs[2].values == (std::vector<std::int32_t>{50, 18}) && rows.inputs[3].element == 0U);
    CHECK(rows.symbols[3].second == 12 &&
          rows.least_symbols[3].second == 4);  // r: bands of 12 in multiples of 16
    const program::Tensor& joined = plan.tensors[rows.outputs.front().second];
    CHECK((joined.shape == std::vector<std::int64_t>{1, 3, 64, 32}) && joined.stride == 1);
    CHECK(joined.first_step == 2 && joined.last_step == 2 &&
          plan.steps[2].dies.size() == 2);  // shown by nobody
    CHECK(plan.shown && plan.tensors[*plan.shown].last_step == UINT32_MAX);
    CHECK((plan.tensors[*plan.shown].shape == std::vector<std::int64_t>{1, 112, 48, 3}));
}

void check_encoding(const Fixture& fixture) {
    Request request = fixture.request(101, 37);
    request.direction = Direction::encode;
    const Plan plan = planned(request);
    CHECK(plan.steps.size() == 7 && !plan.shown);
    const auto& coded = std::get<EntropyStep>(plan.steps[1].work);
    CHECK(coded.symbols && *coded.symbols != coded.out && coded.sets == std::vector<std::int32_t>{0});
    CHECK(graph(plan, 0).inputs[0].kind == program::Source::Kind::picture && graph(plan, 0).unit == 8);
    CHECK(plan.memory_bytes > 12 * 101 * 37);
}

void check_windows(const Fixture& fixture) {
    Request request = fixture.request(2100, 2100);
    request.rounds = 2;
    const Plan whole = planned(request);
    const GraphStep& draw = graph(whole, 4);
    CHECK(draw.calls.size() == 25);  // edges of 512
    CHECK((draw.calls[1].kept == Rect{0, 512, 512, 1024} && draw.calls[1].around == Rect{0, 488, 536, 1048}));
    request.windows = false;
    CHECK(graph(planned(request), 4).calls.size() == 1);
}

void check_regions(const Fixture& fixture) {
    bundle::Manifest manifest = fixture.manifest;
    bundle::Program& program = manifest.variants.items.front().second.program;
    program.stages.erase(program.stages.begin());  // rounds of one size, all steps with a halo
    Request request = fixture.request(2100, 2100);
    request.manifest = &manifest;
    request.program = &program;
    request.tile = 64;
    request.region = Rect{500, 520, 900, 730};  // more than the least that a float graph runs on
    const Plan plan = planned(request);
    CHECK((plan.steps[1].rect == Rect{496, 520, 904, 736} && plan.steps[2].rect == *request.region));
    const auto& coded = std::get<EntropyStep>(plan.steps[0].work);
    CHECK(coded.first_tile_row == 7 && coded.first_tile_column == 7 && coded.grid_columns == 33);
    CHECK(coded.tile_rows == 8 && coded.tile_columns == 5);
    for (const program::Call& call : graph(plan, 1).calls)
        CHECK(call.kept.top / 512 == (call.kept.bottom - 1) / 512);  // windows begin where those of all begin
    request.region = Rect{0, 0, 2100, 2101};
    Plan none;
    CHECK(program::make_plan(request, none).code() == Code::invalid_argument);
}

void check_batches(const Fixture& fixture) {
    bundle::Manifest manifest = fixture.manifest;
    for (auto& [name, port] : manifest.graphs.items[1].second.inputs.items) port.dims[0] = {1, 1, "", ""};
    for (auto& [name, port] : manifest.graphs.items[1].second.outputs.items) port.dims[0] = {1, 1, "", ""};
    Request request = fixture.request(64, 64);
    request.manifest = &manifest;
    request.batch = 3;
    const Plan plan = planned(request);
    CHECK(graph(plan, 1).one_by_one && !graph(plan, 2).one_by_one && plan.tensors[*plan.shown].shape[0] == 3);
}

void check_refusals(const Fixture& fixture) {
    Plan plan;
    Request request = fixture.request(1 << 24, 1 << 24);
    CHECK(program::make_plan(request, plan).code() ==
          Code::limit);  // more windows than anyone would wait for
    request = fixture.request(64, 64);
    request.tile = 12;
    CHECK(program::make_plan(request, plan).code() == Code::invalid_argument);
    request = fixture.request(64, 64);
    request.values[1] = {};
    CHECK(planned(request).rounds.size() == 1);  // no round of the first stage
    request.values[1] = {1, 1, 2, 2, 3, 3};
    CHECK(program::make_plan(request, plan).code() == Code::invalid_argument);  // k has two values
    request.picture = {0, 64};
    CHECK(program::make_plan(request, plan).code() == Code::invalid_argument);
    bundle::Manifest manifest = fixture.manifest;
    manifest.graphs.items[1].second.outputs.items[0].second.dims[2].factor = 9999999;
    manifest.graphs.items[1].second.outputs.items[0].second.dims[3].factor = 9999999;
    request = fixture.request(64, 64);
    request.manifest = &manifest;
    CHECK(program::make_plan(request, plan).code() == Code::limit);  // no machine holds that
}

void check_files_and_choices(const Fixture& fixture) {
    nicrt::Header header;
    header.symbol_id = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};
    header.height = header.width = 64;
    header.parameters = {{1}, {32, 32}, {0, 0}};
    header.stages.resize(2);
    for (nicrt::Stage& stage : header.stages) stage.streams.resize(1);
    for (nicrt::Stage& stage : header.stages) stage.streams[0].tiles.resize(1);
    program::Opened opened;
    CHECK(program::open_file(fixture.manifest, header, {}, opened).ok() && opened.rounds.size() == 2);
    header.stages[1].streams[0].tiles.resize(2);
    CHECK(program::open_file(fixture.manifest, header, {}, opened).code() == Code::corrupt);
    header.parameters[1] = {1 << 14, 1 << 14};
    CHECK(program::open_file(fixture.manifest, header, {}, opened).code() == Code::limit);
    header.symbol_id[0] = 1;
    CHECK(program::open_file(fixture.manifest, header, {}, opened).code() == Code::wrong_bundle);

    program::Wish wish;
    std::string_view variant;
    program::Values values;
    wish.variant = "7";
    CHECK(program::choose(fixture.manifest, wish, {64, 64}, variant, values).ok());
    CHECK(variant == "w7" && values[0] == std::vector<std::int32_t>{4});  // 4.5 is rounded to even
    wish.parameters = {{"k", {3}}};
    CHECK(program::choose(fixture.manifest, wish, {64, 64}, variant, values).ok());
    CHECK(values[2] == (std::vector<std::int32_t>{3, 3}));
    wish.quality = 101;
    CHECK(program::choose(fixture.manifest, wish, {64, 64}, variant, values).code() ==
          Code::invalid_argument);
    std::uint64_t pixels = 0;
    CHECK(program::most_pixels(fixture.manifest, *fixture.program, 1000, 1 << 30, Direction::decode, pixels)
              .ok());
    CHECK(pixels == 31 * 31);
}

}  // namespace

int main() {
    const Fixture fixture;
    check_rounds(fixture);
    check_encoding(fixture);
    check_windows(fixture);
    check_regions(fixture);
    check_batches(fixture);
    check_refusals(fixture);
    check_files_and_choices(fixture);
    return 0;
}
