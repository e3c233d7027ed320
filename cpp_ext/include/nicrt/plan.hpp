// What a program will do for one picture, known before anything runs: rounds, steps in their order, the shape
// and the life of every tensor, the rectangles that graphs run on, memory. Everything that runs a program, or
// asks what running it would take, reads plan steps; no other place resolves `$p`, `@x` or dimensions
// (docs/BUNDLE.md, section 8).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "nicrt/container.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

namespace nicrt::program {

/// Of pictures and of layers.
inline constexpr std::int32_t kMaxSide = 1 << 24;

/// A list of values for each of the program's parameters, in its order.
using Values = std::vector<std::vector<std::int32_t>>;

struct Extent {
    std::int32_t height = 0, width = 0;
    bool operator==(const Extent&) const = default;
};

/// Pixels top .. bottom - 1, left .. right - 1 of a round's padded picture.
struct Rect {
    std::int32_t top = 0, left = 0, bottom = 0, right = 0;

    [[nodiscard]] std::int32_t height() const { return bottom - top; }
    [[nodiscard]] std::int32_t width() const { return right - left; }
    [[nodiscard]] std::int64_t area() const { return std::int64_t{height()} * width(); }
    [[nodiscard]] bool is_empty() const { return top >= bottom || left >= right; }
    [[nodiscard]] static Rect of(Extent extent) { return {0, 0, extent.height, extent.width}; }
    bool operator==(const Rect&) const = default;
};

enum class Direction : std::uint8_t { decode, encode };

/// What is to be planned. `values` must have passed `check_values`.
struct Request {
    const bundle::Manifest* manifest = nullptr;
    const bundle::Program* program = nullptr;
    Values values;
    Extent picture;
    Direction direction = Direction::decode;
    std::uint32_t rounds = UINT32_MAX;  ///< the first so many
    bool show = true;                   ///< decoding: with what shows the last of these rounds
    std::optional<Rect> region;         ///< decoding: the part of what is shown that is wanted
    std::uint32_t tile = 0;             ///< edge of the file's tiles in pixels, 0 for none
    std::int32_t batch = 1;             ///< pictures at once
    std::int32_t effort = 0;            ///< encoding: picks among the graphs of a step
    bool windows = true;                ///< false: each graph runs once on all of its picture
    /// Edge of the windows of graphs with a halo in pixels; 0: large pictures alone have windows, as large as
    /// their graphs' workspace allows.
    std::int32_t window_edge = 0;
    /// Bytes per pixel that a graph needs besides its inputs and outputs; by default what the manifest says.
    std::function<double(std::string_view graph)> workspace;
};

/// One run of a stage. number: its place among the file's stages. item: its place in the list that the stage
/// runs for.
struct Round {
    const bundle::Stage* stage = nullptr;
    Extent size, padded;
    std::uint32_t number = 0, item = 0;
};

/// What a step writes. A name that is written again is another tensor. Of a step that is not needed: no
/// shape, no rect.
struct Tensor {
    std::string_view name;
    bundle::Element dtype = bundle::Element::float32;
    std::vector<std::int64_t> shape;
    Rect rect;                               ///< the pixels that it covers, where it is spatial
    std::int32_t stride = 0;                 ///< pixels a place; 0: it is not spatial
    std::array<std::uint8_t, 2> axes{2, 3};  ///< its rows and columns
    bool per_picture = false;                ///< the first dimension is the batch; else all pictures share it
    std::uint32_t first_step = 0,
                  last_step = 0;  ///< that writes it; that reads it last, UINT32_MAX where it is shown

    [[nodiscard]] std::uint64_t bytes() const;
};

/// Places of a tensor along its rows and columns.
struct Part {
    std::int64_t first_row = 0, rows = 0, first_column = 0, columns = 0;
};

/// Of a spatial tensor the places that cover `rect`, cut to those that it has: a round may read what an
/// earlier one of another size has made.
[[nodiscard]] Part part_of(const Tensor& tensor, const Rect& rect);

/// The shape of what a graph gets of a tensor when it runs on `rect`: that part, or all of one that is not
/// spatial.
[[nodiscard]] std::vector<std::int64_t> shape_on(const Tensor& tensor, const Rect& rect);

/// What an input port of a graph takes.
struct Source {
    enum class Kind : std::uint8_t { tensor, parameter, picture, size, rows, columns };
    std::string_view port;
    Kind kind = Kind::tensor;
    std::uint32_t tensor = 0;              ///< of Plan::tensors
    std::uint32_t parameter = 0;           ///< of the program's
    std::optional<std::uint32_t> element;  ///< of that parameter's list: `$p[i]`
    std::vector<std::int32_t> values;      ///< of a parameter and of the size: what the port gets
    bool per_picture = false;              ///< its first dimension is the batch
};

/// One call of a graph: it runs on `around` (the window and its halo), `kept` of what it gives stays. Rows:
/// what `@rows` holds, `first_row` .. `end_row` - 1: those of a band, or all of the padded picture.
struct Call {
    Rect around, kept;
    std::int32_t first_row = 0, end_row = 0;
};

struct GraphStep {
    const bundle::Run* run = nullptr;
    const bundle::Graph* graph = nullptr;
    std::string_view name;       ///< of the graph that runs: of the asked effort
    std::vector<Source> inputs;  ///< in the order of the graph's ports
    std::vector<std::pair<std::string_view, std::uint32_t>> outputs;  ///< port, tensor; in the step's order
    std::vector<Call> calls;
    bool banded = false;      ///< calls are bands, joined along the third dimension
    bool one_by_one = false;  ///< the pictures of a batch run one after the other
    std::int32_t unit = 0;    ///< pixels that one unit of its dimension symbols stands for; 0: unknown
    /// Extents of the dimension symbols of the inputs, on all of `Step::rect` (of the first band).
    std::vector<std::pair<std::string_view, std::int64_t>> symbols;
    /// Banded: the same of the smallest band with which a picture of any height may end; none where it does
    /// not fit.
    std::vector<std::pair<std::string_view, std::int64_t>> least_symbols;
};

struct EntropyStep {
    const bundle::Entropy* entropy = nullptr;
    std::uint32_t stream = 0;              ///< its number in the file
    std::uint32_t out = 0;                 ///< the tensor that it writes
    std::optional<std::uint32_t> symbols;  ///< encoding: the tensor of latents that it reads
    std::optional<std::uint32_t> index;    ///< the tensor that picks tables
    std::vector<std::int32_t> sets;        ///< by channel: the numbers of the sets
    std::array<std::int32_t, 3> whole{};   ///< channels, height, width of the stream
    std::array<std::int32_t, 3> shape{};   ///< of the tiles that are read
    /// Tiles of the stream that are read: their first row and column, rows and columns; and columns of the
    /// whole grid.
    std::int32_t first_tile_row = 0, first_tile_column = 0, tile_rows = 1, tile_columns = 1, grid_columns = 1;
};

struct Step {
    std::uint32_t round = 0;
    bool needed = true;               ///< false: nothing that is shown of a region needs it
    Rect rect;                        ///< the pixels that its outputs cover
    std::vector<std::uint32_t> dies;  ///< tensors that nothing reads after it
    std::variant<EntropyStep, GraphStep> work;
};

/// Views of the manifest, which must outlive it.
struct Plan {
    std::vector<Round> rounds;
    std::vector<Tensor> tensors;
    std::vector<Step> steps;
    std::optional<std::uint32_t> shown;  ///< the tensor that shows the last round
    Rect region;                         ///< what of it is wanted, within the round's size
    std::uint64_t memory_bytes = 0;      ///< an estimate of the most that running it holds at once
};

inline constexpr std::size_t kBandAxis = 2;  ///< along which bands are joined

/// The shape of what a graph gives of a tensor when it runs on `rect`, which may be more than the tensor
/// keeps.
[[nodiscard]] std::vector<std::int64_t> shape_covering(const Tensor& tensor, const Rect& rect);

/// The shape of what a call gives of a tensor that its step makes through `port`: of a window with what lies
/// around it, of a band its rows.
[[nodiscard]] std::vector<std::int64_t> shape_of_call(const Tensor& tensor, const GraphStep& step,
                                                      std::string_view port, const Call& call);

/// invalid_argument: values that the program's parameters do not take, in words for a person (count of
/// values, range, no round at all, a list that is too short for the rounds); limit: a size of more pixels
/// than allowed among the values.
Status check_values(const bundle::Program& program, const Values& values, const nicrt::Limits& limits);

/// What an encoder takes where nobody asks for anything else.
[[nodiscard]] Values default_values(const bundle::Program& program, Extent picture);

/// height, width, height, ... of a picture times each scale, at least 1.
[[nodiscard]] std::vector<std::int32_t> scaled_sizes(Extent picture, std::span<const double> scales);

/// All rounds for a picture, in the file's order. `values` must have passed `check_values`.
[[nodiscard]] std::vector<Round> rounds_of(const bundle::Program& program, const Values& values,
                                           Extent picture);

/// invalid_argument: the values are another picture's, the region lies outside the shown picture, or tiles do
/// not fit the streams. unsupported: the bundle's graphs do not fit each other at this size (BUNDLE.md,
/// section 11). limit: more calls of graphs, or larger tensors, than any machine could work on.
Status make_plan(const Request& request, Plan& out);

/// Pixels of the largest square picture whose plan with default values stays within `memory_bytes`; 0 for
/// none.
Status most_pixels(const bundle::Manifest& manifest, const bundle::Program& program, std::uint64_t max_pixels,
                   std::uint64_t memory_bytes, Direction direction, std::uint64_t& out);

/// A file held against the bundle that it names.
struct Opened {
    std::string_view variant;
    const bundle::Program* program = nullptr;
    Values values;
    std::vector<Round> rounds;
};

/// wrong_bundle: the file's symbol id is none of the bundle's. corrupt: its header does not fit the program:
/// parameters, number of stages, streams and tiles, or a last round of another size than the picture.
Status open_file(const bundle::Manifest& manifest, const nicrt::Header& header, const nicrt::Limits& limits,
                 Opened& out);

/// What an encoder may be asked for; later fields win over earlier ones.
struct Wish {
    double quality = 50;
    std::optional<std::string_view> variant;    ///< "96" also finds "w96"
    std::optional<std::vector<double>> scales;  ///< rising sizes of the layers relative to the last
    std::vector<std::pair<std::string_view, std::vector<std::int32_t>>> parameters;
};

/// Variant and values for a picture. invalid_argument, in words for a person, for what is not there.
Status choose(const bundle::Manifest& manifest, const Wish& wish, Extent picture, std::string_view& variant,
              Values& out);

}  // namespace nicrt::program
