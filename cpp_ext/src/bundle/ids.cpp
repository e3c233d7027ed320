#include "bundle/ids.hpp"

#include "bundle/writer.hpp"
#include "sha256.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::size_t kSymbolIdDigits = 16, kPictureIdDigits = 8;

std::string hash(std::string_view kind, std::string_view text) {
    Sha256 sha;
    sha.update(kind);
    sha.update(text);
    return sha.hex_digest();
}

template <class T>
std::string number_or_null(const std::optional<T>& value) {
    return value ? std::to_string(*value) : "null";
}

std::string quoted_or_null(const std::optional<std::string_view>& value) {
    return value ? json::quoted(*value) : "null";
}

class ProgramIds {
public:
    ProgramIds(const Manifest& manifest, const GraphHashes& hashes) : manifest_(manifest), hashes_(hashes) {}

    [[nodiscard]] Ids of(const Program& program) const {
        return {hash("nicrt symbol id 2\n", symbol_text(program)).substr(0, kSymbolIdDigits),
                hash("nicrt picture id 2\n", picture_text(program)).substr(0, kPictureIdDigits)};
    }

private:
    [[nodiscard]] std::string run_text(const Run& run) const {
        Writer writer(true);
        json::List list;
        list.add(json::quoted(hashes_.at(run.graph)));
        list.add(writer.text(run.inputs, Map<Text>{}));
        list.add(writer.text(run.outputs, Map<Text>{}));
        list.add(number_or_null(run.bands));
        return list.close();
    }

    [[nodiscard]] std::string entropy_text(const Entropy& step) const {
        json::List list;
        list.add(json::quoted(step.out));
        list.add(std::to_string(step.channels));
        list.add(std::to_string(step.stride));
        list.add(json::quoted(*manifest_.tables.groups.find(step.tables)));
        list.add(json::quoted(step.by));
        list.add(quoted_or_null(step.set));
        return list.close();
    }

    /// Whether the step runs when decoding, and the symbol id covers it (or else the picture id).
    [[nodiscard]] bool decodes(const Run& run, bool symbols) const {
        return !run.enc && manifest_.graphs.find(run.graph)->decides_symbols() == symbols;
    }

    [[nodiscard]] std::string symbol_text(const Program& program) const {
        json::List parameters, stages;
        for (const Parameter& p : program.parameters) {
            json::List list;
            list.add(json::quoted(p.name));
            list.add(number_or_null(p.length));
            list.add(p.is_sizes() ? "true" : "false");
            parameters.add(list.close());
        }
        for (const Stage& stage : program.stages) {
            json::List steps;
            for (const Step& step : stage.steps) {
                if (const auto* const entropy = std::get_if<Entropy>(&step))
                    steps.add(entropy_text(*entropy));
                else if (decodes(std::get<Run>(step), true)) steps.add(run_text(std::get<Run>(step)));
            }
            json::Object object(true);
            object.add("each", quoted_or_null(stage.each));
            object.add("align", std::to_string(stage.align));
            object.add("steps", steps.close());
            stages.add(object.close());
        }
        json::Object object(true);
        object.add("parameters", parameters.close());
        object.add("stages", stages.close());
        return object.close();
    }

    [[nodiscard]] std::string picture_text(const Program& program) const {
        json::List stages;
        for (const Stage& stage : program.stages) {
            json::List steps, show;
            for (const Step& step : stage.steps)
                if (const Run* const run = std::get_if<Run>(&step); run != nullptr && decodes(*run, false))
                    steps.add(run_text(*run));
            for (const Run& run : stage.show.runs) show.add(run_text(run));
            json::Object object(true);
            object.add("steps", steps.close());
            object.add("show", show.close());
            object.add("shown", json::quoted(stage.show.shown()));
            stages.add(object.close());
        }
        json::Object object(true);
        object.add("color", json::quoted(manifest_.color));
        object.add("stages", stages.close());
        return object.close();
    }

    const Manifest& manifest_;
    const GraphHashes& hashes_;
};

}  // namespace

std::string graph_hash(const Graph& graph) {
    Writer writer(true);
    json::Object object(true);
    object.add("inputs", writer.text(graph.inputs, Map<Fields>{}));
    object.add("outputs", writer.text(graph.outputs, Map<Fields>{}));
    object.add("exact", graph.exact ? "true" : "false");
    object.add("in_loop", graph.in_loop ? "true" : "false");
    object.add("halo", number_or_null(graph.halo));
    if (graph.onnx) object.add("onnx", json::quoted(graph.onnx->sha256));
    if (graph.native) object.add("native", writer.text(*graph.native, Fields{}));
    return hash("nicrt graph 2\n", object.close());
}

std::string file_leaf(std::span<const std::uint8_t> bytes) {
    Sha256 sha;
    sha.update(bytes);
    return sha.hex_digest();
}

std::string tensor_leaf(Element dtype, std::span<const std::int32_t> shape,
                        std::span<const std::uint8_t> data) {
    std::string head = "nicrt tensor 2\n" + std::string(name_of(dtype)) + " ";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) head += 'x';
        head += std::to_string(shape[i]);
    }
    Sha256 sha;
    sha.update(head + "\n");
    sha.update(data);
    return sha.hex_digest();
}

GraphHashes graph_hashes(const Manifest& manifest) {
    GraphHashes hashes;
    for (const auto& [name, graph] : manifest.graphs) hashes[name] = graph_hash(graph);
    return hashes;
}

std::vector<Ids> ids_of(const Manifest& manifest, const GraphHashes& hashes) {
    const ProgramIds ids(manifest, hashes);
    std::vector<Ids> result;
    for (const auto& [name, variant] : manifest.variants) result.push_back(ids.of(variant.program));
    return result;
}

}  // namespace nicrt::bundle
