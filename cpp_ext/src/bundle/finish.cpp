// For exporters: what a manifest says of the files beside it, put in once they have been written.
#include <deque>
#include <string>
#include <utility>

#include "bundle/check.hpp"
#include "bundle/ids.hpp"
#include "bundle/manifest.hpp"
#include "bundle/parts.hpp"
#include "bundle/safetensors.hpp"
#include "bundle/tables.hpp"
#include "nicrt/bundle.hpp"
#include "parallel.hpp"

namespace nicrt::bundle {
namespace {

/// Keeps the texts that a manifest's names become views of.
class Finisher {
public:
    Finisher(const Source& source, Manifest& manifest) : source_(source), manifest_(manifest) {}

    Status run() {
        for (auto& [name, graph] : manifest_.graphs.items) {
            if (graph.onnx) NICRT_RETURN_IF_ERROR(file(*graph.onnx, kMaxGraphBytes));
            if (graph.native) NICRT_RETURN_IF_ERROR(views(*graph.native));
        }
        if (manifest_.card) NICRT_RETURN_IF_ERROR(file(*manifest_.card, kMaxCardBytes));
        TableGroups groups;
        NICRT_RETURN_IF_ERROR(tables(groups));
        NICRT_RETURN_IF_ERROR(check_manifest(manifest_, groups));
        const std::vector<Ids> ids = ids_of(manifest_, graph_hashes(manifest_));
        for (std::size_t i = 0; i < ids.size(); ++i) {
            Variant& variant = manifest_.variants.items[i].second;
            variant.symbol_id = keep(ids[i].symbol);
            variant.picture_id = keep(ids[i].picture);
        }
        return {};
    }

private:
    std::string_view keep(std::string text) { return texts_.emplace_back(std::move(text)); }

    Status file(File& entry, std::uint64_t most_bytes) {
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(source_, entry.file, most_bytes, content));
        Bytes bytes;
        NICRT_RETURN_IF_ERROR(content.all(bytes));
        entry.sha256 = keep(file_leaf(bytes));
        return {};
    }

    Status open(std::string_view name, std::uint64_t most_bytes, TensorFile& out) {
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(source_, name, most_bytes, content));
        return TensorFile::open(content, out);
    }

    Status views(NativeForm& form) {
        if (form.tensors.size() == 0) return {};
        if (!manifest_.weights)
            return invalid_bundle("its native forms have tensors, but no file of weights");
        TensorFile stored;
        NICRT_RETURN_IF_ERROR(open(manifest_.weights->file, kMaxWeightsBytes, stored));
        for (auto& [name, view] : form.tensors.items) {
            Bytes values;
            NICRT_RETURN_IF_ERROR(stored.read_corner(name, view.shape, values));
            view.sha256 = keep(tensor_leaf(stored.find(name)->dtype, view.shape, values));
        }
        return {};
    }

    Status tables(TableGroups& groups) {
        TensorFile stored;
        NICRT_RETURN_IF_ERROR(open(manifest_.tables.file, kMaxTablesBytes, stored));
        NICRT_RETURN_IF_ERROR(read_groups(stored, manifest_.tables.groups, groups));
        for (auto& [name, leaf] : manifest_.tables.groups.items) leaf = keep(groups[name].leaf());
        return {};
    }

    const Source& source_;
    Manifest& manifest_;
    std::deque<std::string> texts_;
};

}  // namespace

Status finish_manifest(const Source& source, std::string text, std::string& out) {
    return status_of([&] {
        Manifest manifest;
        NICRT_RETURN_IF_ERROR(read_manifest(std::move(text), manifest));
        Finisher finisher(source, manifest);
        NICRT_RETURN_IF_ERROR(finisher.run());
        return write(manifest, out);
    });
}

Status read_graph_entry(std::string_view name, std::string text, Graph& out,
                        std::shared_ptr<const void>& text_kept) {
    return status_of([&] {
        std::unique_ptr<const json::Document> document;
        NICRT_RETURN_IF_ERROR(
            with_place("graph " + in_quotes(name), read_graph(std::move(text), out, document)));
        text_kept = std::move(document);
        return Status{};
    });
}

Status check_graph_entry(std::string_view name, std::string text, std::string& hash) {
    Graph graph;
    std::shared_ptr<const void> kept;
    NICRT_RETURN_IF_ERROR(read_graph_entry(name, std::move(text), graph, kept));
    return status_of([&] {
        NICRT_RETURN_IF_ERROR(check_graph(name, graph));
        hash = graph_hash(graph);
        return Status{};
    });
}

}  // namespace nicrt::bundle
