// The manifest of a bundle as it was read and checked (docs/BUNDLE.md). Names are views of its text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "nicrt/native_form.hpp"
#include "nicrt/status.hpp"

namespace nicrt::json {
class Document;
struct Value;
}  // namespace nicrt::json

namespace nicrt::bundle {

inline constexpr std::int64_t kBundleFormat = 2;
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxPortDimensions = 8;

/// A number, or a symbol with a factor: "64h" is 64 times h.
struct Dimension {
    std::int32_t extent = 0;   ///< 0 for a symbol
    std::int32_t factor = 1;   ///< of the symbol
    std::string_view spelled;  ///< factor and symbol, as in the manifest
    std::string_view symbol;

    [[nodiscard]] std::string_view factor_text() const {
        return spelled.substr(0, spelled.size() - symbol.size());
    }
    bool operator==(const Dimension&) const = default;
};

struct Port {
    Element dtype = Element::float32;
    std::vector<Dimension> dims;
    std::optional<Pair> range;
    bool operator==(const Port&) const = default;
};

struct Proof {
    std::int64_t seed = 0;
    Named<std::int32_t> sizes;
    std::string_view sha256;
    bool operator==(const Proof&) const = default;
};

struct File {
    std::string_view file, sha256;
    bool operator==(const File&) const = default;
};

struct Graph {
    Named<Port> inputs, outputs;
    bool exact = false, encoder = false, in_loop = false;
    std::optional<std::int32_t> halo;
    std::vector<Proof> proofs;
    std::optional<double> macs_per_pixel, workspace_bytes_per_pixel;
    std::optional<File> onnx;
    std::optional<NativeForm> native;

    /// Whether the symbol id covers it.
    [[nodiscard]] bool decides_symbols() const { return exact || in_loop; }
    bool operator==(const Graph&) const = default;
};

struct Tables {
    std::string_view file;
    Named<std::string_view> groups;  ///< by name: the group's hash
    bool operator==(const Tables&) const = default;
};

struct Weights {
    std::string_view file;
    bool operator==(const Weights&) const = default;
};

struct Parameter {
    std::string_view name;
    std::int32_t min = 0, max = 0, initial = 0;  ///< initial: the field `default`
    std::optional<std::int32_t> length;
    std::optional<std::vector<double>> scales;

    [[nodiscard]] bool is_sizes() const { return scales.has_value(); }
    bool operator==(const Parameter&) const = default;
};

struct Entropy {
    static constexpr std::string_view kTag = "entropy";
    std::string_view out;
    std::int32_t channels = 0, stride = 0;
    std::string_view tables, by;
    std::optional<std::string_view> set;
    bool operator==(const Entropy&) const = default;
};

struct Run {
    static constexpr std::string_view kTag = "graph";
    std::string_view graph;
    Named<std::string_view> inputs, outputs;  ///< port → source, port → tensor
    bool enc = false;
    Named<std::string_view> effort;
    std::optional<std::int32_t> bands;
    bool operator==(const Run&) const = default;
};

using Step = std::variant<Entropy, Run>;

/// What a stage looks like: a tensor, or what these runs make of the scope.
struct Show {
    std::string_view tensor;
    std::vector<Run> runs;
    bool listed = false;  ///< in the manifest `runs` is a list

    /// The name of what is shown; the last run has one output.
    [[nodiscard]] std::string_view shown() const {
        return runs.empty() ? tensor : runs.back().outputs.items.front().second;
    }
    bool operator==(const Show&) const = default;
};

struct Stage {
    std::int32_t align = 1;
    std::vector<Step> steps;
    Show show;
    std::optional<std::string_view> each;
    std::int32_t tile = 0;
    bool operator==(const Stage&) const = default;
};

struct Program {
    std::vector<Parameter> parameters;
    std::vector<Stage> stages;

    [[nodiscard]] bool encodes() const;
    bool operator==(const Program&) const = default;
};

struct Variant {
    std::string_view symbol_id, picture_id;  ///< 16 and 8 hexadecimal digits
    Program program;
    bool operator==(const Variant&) const = default;
};

/// A number, or a list of them.
struct Setting {
    std::vector<std::int32_t> values;
    bool listed = false;
    bool operator==(const Setting&) const = default;
};

struct QualityPoint {
    double quality = 0;
    std::string_view variant;
    Named<Setting> parameters;
    bool operator==(const QualityPoint&) const = default;
};

struct Manifest {
    std::int64_t bundle_format = 0;
    std::string_view name, summary, license, color;
    Named<Graph> graphs;
    Tables tables;
    Named<Variant> variants;
    std::vector<QualityPoint> quality;
    std::optional<Weights> weights;
    std::optional<File> card;
    std::vector<std::string_view> required;
    const json::Value* provenance = nullptr;         ///< an object; nullptr where there is none
    std::shared_ptr<const json::Document> document;  ///< what all names are views of
};

/// The manifest as JSON without white space: fields in the order of docs/BUNDLE.md's types, those at their
/// default left out, numbers in one form. What is read from it is what was checked.
Status write(const Manifest& manifest, std::string& out);

/// Every file besides the manifest, sorted.
[[nodiscard]] std::vector<std::string_view> files_of(const Manifest& manifest);

}  // namespace nicrt::bundle
