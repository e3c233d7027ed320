#include "bundle/manifest.hpp"

#include <algorithm>
#include <cstdio>

#include "bundle/reader.hpp"
#include "bundle/writer.hpp"
#include "compiler.hpp"
#include "json/json.hpp"
#include "parallel.hpp"

namespace nicrt::bundle {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_letter(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }
bool is_letter_or_digit(char c) { return is_letter(c) || is_digit(c); }

bool are_words(std::string_view text) {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return is_letter_or_digit(c) || c == '_' || c == '-' || c == '.'; });
}

bool is_file_part(std::string_view part) {
    return !part.empty() && is_letter_or_digit(part[0]) && are_words(part);
}

bool is_path(std::string_view text) {
    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos) return is_file_part(text);
    return is_file_part(text.substr(0, slash)) && is_file_part(text.substr(slash + 1));
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 && is_letter(text[0]) && are_words(text);
}

bool is_hash(std::string_view text, std::size_t digits) {
    return text.size() == digits && std::all_of(text.begin(), text.end(), is_hex);
}

bool is_dimension(std::string_view text) {
    const auto symbol = std::find_if_not(text.begin(), text.end(), is_digit);
    const auto digits = symbol - text.begin();
    return digits <= 7 && (digits == 0 || text[0] != '0') && symbol != text.end() &&
           std::all_of(symbol, text.end(), is_lower);
}

/// What a manifest of any format says about who can read it.
struct Version {
    std::string format;
    std::vector<std::string_view> required;
};

Status read_version(const json::Value& root, Version& out) {
    const json::Value* const format = json::find(root, "bundle_format");
    if (format == nullptr) return {Code::unsupported, "Object missing required field `bundle_format`"};
    if (format->kind != json::Kind::integer)
        return {Code::unsupported,
                "Expected `int`, got `" + std::string(name_of(format->kind)) + "` - at `$.bundle_format`"};
    out.format = shown(json::text_of(*format));
    const json::Value* const features = json::find(root, "requires");
    if (features == nullptr) return {};
    if (features->kind != json::Kind::array)
        return {Code::unsupported,
                "Expected `array`, got `" + std::string(name_of(features->kind)) + "` - at `$.requires`"};
    for (const json::Value& feature : features->array()) {
        if (feature.kind != json::Kind::text || !matches(Pattern::name, feature.characters()))
            return {Code::unsupported, "Expected `str` of a feature - at `$.requires[...]`"};
        out.required.push_back(feature.characters());
    }
    return {};
}

Status check_version(const Version& version) {
    if (version.format != std::to_string(kBundleFormat))
        return {Code::unsupported, "the bundle has format " + version.format + "; this nicrt reads format " +
                                       std::to_string(kBundleFormat) + ": export it again"};
    if (version.required.empty()) return {};  // this version has no features that a bundle may ask for
    return {Code::unsupported,
            "the bundle requires '" +
                std::string(*std::min_element(version.required.begin(), version.required.end())) +
                "': install a nicrt that has it"};
}

Status invalid(const Status& status) {
    if (status.ok() || status.code() != Code::unsupported) return status;
    return {Code::unsupported, "the bundle's manifest is not valid: " + status.message()};
}

}  // namespace

std::string_view expression_of(Pattern pattern) {
    switch (pattern) {
        case Pattern::any: return ".*";
        case Pattern::name: return "^[A-Za-z][A-Za-z0-9_.-]{0,63}$";
        case Pattern::hash: return "^[0-9a-f]{64}$";
        case Pattern::path: return "^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$";
        case Pattern::symbol_id: return "^[0-9a-f]{16}$";
        case Pattern::picture_id: return "^[0-9a-f]{8}$";
        case Pattern::level: return "^[1-9]$";
        case Pattern::dimension: break;
    }
    return "^([1-9][0-9]{0,6})?([a-z]+)$";
}

bool matches(Pattern pattern, std::string_view text) {
    switch (pattern) {
        case Pattern::any: return true;
        case Pattern::name: return is_name(text);
        case Pattern::hash: return is_hash(text, 64);
        case Pattern::path: return is_path(text);
        case Pattern::symbol_id: return is_hash(text, 16);
        case Pattern::picture_id: return is_hash(text, 8);
        case Pattern::level: return text.size() == 1 && text[0] >= '1' && text[0] <= '9';
        case Pattern::dimension: break;
    }
    return is_dimension(text);
}

std::string Writer::text(const Pair& value, const TwoNumbers&) {
    json::List list;
    for (const std::int32_t number : value) list.add(std::to_string(number));
    return list.close();
}

std::string Writer::text(const Dimension& value, Anything) {
    return value.extent > 0 ? std::to_string(value.extent) : json::quoted(value.spelled);
}

std::string Writer::text(const Setting& value, Anything) {
    if (!value.listed) return std::to_string(value.values.front());
    json::List list;
    for (const std::int32_t number : value.values) list.add(std::to_string(number));
    return list.close();
}

std::string Writer::text(double value, const Real&) const {
    if (!canonical_) return json::text_of(value);
    char digits[19];
    std::snprintf(digits, sizeof digits, "\"%016llx\"",
                  static_cast<unsigned long long>(bit_cast<std::uint64_t>(value)));
    return digits;
}

std::string Writer::text(const Show& value, Anything) {
    if (value.runs.empty()) return json::quoted(value.tensor);
    if (!value.listed) return tagged(value.runs.front(), {"op"});
    json::List list;
    for (const Run& run : value.runs) list.add(tagged(run, {"op"}));
    return list.close();
}

bool Program::encodes() const {
    for (const Stage& stage : stages)
        for (const Step& step : stage.steps)
            if (const Run* const run = std::get_if<Run>(&step); run != nullptr && run->enc) return true;
    return false;
}

std::vector<std::string_view> files_of(const Manifest& manifest) {
    std::vector<std::string_view> names{manifest.tables.file};
    if (manifest.weights) names.push_back(manifest.weights->file);
    if (manifest.card) names.push_back(manifest.card->file);
    for (const auto& [name, graph] : manifest.graphs)
        if (graph.onnx) names.push_back(graph.onnx->file);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
}

Status read_manifest(std::string text, Manifest& out) {
    if (text.size() > kMaxManifestBytes)
        return {Code::unsupported, "the manifest has " + std::to_string(text.size()) + " bytes, more than " +
                                       std::to_string(kMaxManifestBytes)};
    std::unique_ptr<const json::Document> document;
    NICRT_RETURN_IF_ERROR(invalid(json::Document::parse(std::move(text), {}, document)));
    if (document->root().kind != json::Kind::object)
        return invalid({Code::unsupported,
                        "Expected `object`, got `" + std::string(name_of(document->root().kind)) + "`"});
    Version version;
    NICRT_RETURN_IF_ERROR(invalid(read_version(document->root(), version)));
    NICRT_RETURN_IF_ERROR(check_version(version));
    Manifest manifest;
    Reader reader;
    reader.read(document->root(), manifest, Fields{});
    NICRT_RETURN_IF_ERROR(invalid(reader.status()));
    manifest.document = std::move(document);
    out = std::move(manifest);
    return {};
}

Status read_graph(std::string text, Graph& out, std::unique_ptr<const json::Document>& document) {
    NICRT_RETURN_IF_ERROR(json::Document::parse(std::move(text), {}, document));
    Reader reader;
    reader.read(document->root(), out, Fields{});
    return reader.status();
}

std::vector<std::string_view> decoding_graphs(const Manifest& manifest) {
    std::vector<std::string_view> names;
    const auto add = [&](const Run& run) {
        if (!run.enc) names.push_back(run.graph);
    };
    for (const auto& [variant_name, variant] : manifest.variants)
        for (const Stage& stage : variant.program.stages) {
            for (const Step& step : stage.steps)
                if (const Run* const run = std::get_if<Run>(&step)) add(*run);
            for (const Run& run : stage.show.runs) add(run);
        }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
}

Status write(const Manifest& manifest, std::string& out) {
    return status_of([&] {
        out = Writer(false).text(manifest, Fields{});
        return Status{};
    });
}

}  // namespace nicrt::bundle
