#include "nicrt/bundle.hpp"

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "bundle/check.hpp"
#include "bundle/codebooks.hpp"
#include "bundle/ids.hpp"
#include "bundle/manifest.hpp"
#include "bundle/parts.hpp"
#include "bundle/safetensors.hpp"
#include "bundle/tables.hpp"
#include "bytes.hpp"
#include "json/write.hpp"
#include "parallel.hpp"
#include "utf8.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::string_view kManifestFile = "manifest.json", kPackedManifest = "nicrt.manifest";
constexpr std::string_view kAgain = "export or install the bundle again";

// A packed bundle's files are parts of its one file.

struct Packed {
    Source base;
    TensorFile file;
};

const Packed& packed_of(const Source& source) { return *static_cast<const Packed*>(source.context.get()); }

Status find_packed(const Source& source, std::string_view name, const Stored*& out) {
    out = packed_of(source).file.find(name);
    if (out != nullptr && out->dtype == Element::uint8 && out->shape.size() == 1) return {};
    if (out != nullptr)
        return {Code::unsupported,
                source.place + ": " + in_quotes(name) + " is not bytes; export or install it again"};
    return {Code::unsupported,
            source.place + ": it lacks " + in_quotes(name) + "; export or install it again"};
}

Status size_in_packed(const Source& source, std::string_view name, std::uint64_t& out) {
    const Stored* stored = nullptr;
    NICRT_RETURN_IF_ERROR(find_packed(source, name, stored));
    out = stored->size;
    return {};
}

Status read_packed(const Source& source, std::string_view name, std::uint64_t start,
                   std::span<std::uint8_t> out) {
    const Stored* stored = nullptr;
    NICRT_RETURN_IF_ERROR(find_packed(source, name, stored));
    const Source& base = packed_of(source).base;
    return base.read(base, "", stored->start + start, out);
}

Status verified(const ByteRange& content, std::string_view sha256, Bytes& out) {
    NICRT_RETURN_IF_ERROR(content.all(out));
    if (file_leaf(out) == sha256) return {};
    return content.refuse("not the file that the manifest lists; " + std::string(kAgain));
}

/// The manifest's text, of a folder.
Status read_text(const Source& source, std::string& out) {
    ByteRange content;
    NICRT_RETURN_IF_ERROR(ByteRange::open(source, kManifestFile, kMaxManifestBytes, content));
    return content.all(out);
}

/// A packed bundle's one file, and the manifest's text in it.
Status open_file(Source source, std::shared_ptr<Packed>& out, std::string& text) {
    auto packed = std::make_shared<Packed>();
    packed->base = std::move(source);
    ByteRange content;
    NICRT_RETURN_IF_ERROR(ByteRange::open(packed->base, "", UINT64_MAX, content));
    NICRT_RETURN_IF_ERROR(TensorFile::open(content, packed->file));
    const auto found = packed->file.metadata(kPackedManifest);
    if (!found) return content.refuse("a safetensors file, but not a packed codec bundle");
    text = *found;
    out = std::move(packed);
    return {};
}

/// A safetensors file of bytes alone.
std::string header_of(std::string_view manifest, std::span<const ByteRange> files) {
    json::Object metadata, header;
    metadata.add(kPackedManifest, json::quoted(manifest));
    header.add("__metadata__", metadata.close());
    std::uint64_t end = 0;
    for (const ByteRange& file : files) {
        const std::string start = std::to_string(end), past = std::to_string(end += file.size);
        header.add(file.name, R"({"dtype":"U8","shape":[)" + std::to_string(file.size) +
                                  R"(],"data_offsets":[)" + start + "," + past + "]}");
    }
    std::string text = header.close();
    text.append((8 - text.size() % 8) % 8, ' ');
    return text;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t count = utf8_bytes(text);
        if (count == 0) return false;
        text.remove_prefix(count);
    }
    return true;
}

}  // namespace

struct Bundle::Impl {
    Source source;
    Manifest manifest;
    TableGroups groups;
    GraphHashes hashes;
    mutable std::mutex mutex;
    mutable std::unique_ptr<const TensorFile> weights;
    mutable Codebooks codebooks;

    /// As the manifest was written.
    [[nodiscard]] std::string_view text() const { return manifest.document->text(); }

    Status read(std::string text);
    Status read_tables();
    Status check_ids();
    Status weights_file(const TensorFile*& out) const;
    Status graph(std::string_view name, const Graph*& out) const;
    Status group(std::string_view name, const TableGroup*& out) const;
};

Status Bundle::Impl::read(std::string text) {
    NICRT_RETURN_IF_ERROR(with_place(source.place, read_manifest(std::move(text), manifest)));
    NICRT_RETURN_IF_ERROR(read_tables());
    NICRT_RETURN_IF_ERROR(check_manifest(manifest, groups));
    return check_ids();
}

Status Bundle::Impl::read_tables() {
    ByteRange content;
    NICRT_RETURN_IF_ERROR(ByteRange::open(source, manifest.tables.file, kMaxTablesBytes, content));
    TensorFile file;
    NICRT_RETURN_IF_ERROR(TensorFile::open(content, file));
    NICRT_RETURN_IF_ERROR(read_groups(file, manifest.tables.groups, groups));
    for (const auto& [name, leaf] : manifest.tables.groups) {
        if (groups[name].leaf() != leaf)
            return content.refuse("tables " + in_quotes(name) + " are not those that the manifest lists; " +
                                  std::string(kAgain));
    }
    return {};
}

Status Bundle::Impl::check_ids() {
    hashes = graph_hashes(manifest);
    const std::vector<Ids> ids = ids_of(manifest, hashes);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const auto& [name, variant] = manifest.variants.items[i];
        const bool symbols = variant.symbol_id == ids[i].symbol;
        if (!symbols || variant.picture_id != ids[i].picture)
            return {Code::unsupported, source.place + ": variant " + in_quotes(name) + " is not what its " +
                                           (symbols ? "picture" : "symbol") + " id says; export it again"};
    }
    return {};
}

Status Bundle::Impl::graph(std::string_view name, const Graph*& out) const {
    out = manifest.graphs.find(name);
    return out != nullptr ? Status{} : invalid_argument("the bundle has no graph " + in_quotes(name));
}

Status Bundle::Impl::group(std::string_view name, const TableGroup*& out) const {
    const auto found = groups.find(name);
    if (found == groups.end()) return invalid_argument("the bundle has no tables " + in_quotes(name));
    out = &found->second;
    return {};
}

Status Bundle::Impl::weights_file(const TensorFile*& out) const {
    const std::lock_guard lock(mutex);
    if (weights == nullptr) {
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(source, manifest.weights->file, kMaxWeightsBytes, content));
        auto file = std::make_unique<TensorFile>();
        NICRT_RETURN_IF_ERROR(TensorFile::open(content, *file));
        weights = std::move(file);
    }
    out = weights.get();
    return {};
}

Bundle::Bundle(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Bundle::~Bundle() = default;

Status Bundle::open(Source source, std::shared_ptr<const Bundle>& out) {
    return status_of([&] {
        auto impl = std::make_unique<Impl>();
        impl->source = std::move(source);
        std::string text;
        NICRT_RETURN_IF_ERROR(read_text(impl->source, text));
        NICRT_RETURN_IF_ERROR(impl->read(std::move(text)));
        out.reset(new Bundle(std::move(impl)));
        return Status{};
    });
}

Status Bundle::open_packed(Source source, std::shared_ptr<const Bundle>& out) {
    return status_of([&] {
        std::shared_ptr<Packed> packed;
        std::string text;
        NICRT_RETURN_IF_ERROR(open_file(std::move(source), packed, text));
        auto impl = std::make_unique<Impl>();
        impl->source = {packed->base.place, packed, size_in_packed, read_packed};
        NICRT_RETURN_IF_ERROR(impl->read(std::move(text)));
        const auto files = files_of(impl->manifest);
        for (const auto& [name, stored] : packed->file.tensors())
            if (!std::binary_search(files.begin(), files.end(), name))
                return packed->file.content().refuse(in_quotes(name) + " in it is no part of the bundle");
        out.reset(new Bundle(std::move(impl)));
        return Status{};
    });
}

#ifdef NICRT_HAS_FILES
Status Bundle::open_path(const std::string& path, std::shared_ptr<const Bundle>& out) {
    return is_folder(path) ? open(folder_source(path), out) : open_packed(file_source(path), out);
}

Status read_manifest_of(const std::string& path, Manifest& out) {
    return status_of([&] {
        std::string text;
        if (is_folder(path)) {
            NICRT_RETURN_IF_ERROR(read_text(folder_source(path), text));
        } else {
            std::shared_ptr<Packed> packed;
            NICRT_RETURN_IF_ERROR(open_file(file_source(path), packed, text));
        }
        return with_place(path, read_manifest(std::move(text), out));
    });
}
#endif

const Manifest& Bundle::manifest() const { return impl_->manifest; }

std::string_view Bundle::graph_hash(std::string_view graph) const {
    const auto found = impl_->hashes.find(graph);
    return found == impl_->hashes.end() ? std::string_view{} : found->second;
}

Status Bundle::codebook(std::string_view name, std::shared_ptr<const Codebook>& out) const {
    return status_of([&]() -> Status {
        const TableGroup* group = nullptr;
        NICRT_RETURN_IF_ERROR(impl_->group(name, group));
        std::shared_ptr<const ChannelTables> tables;
        NICRT_RETURN_IF_ERROR(impl_->codebooks.all(*group, tables));
        out = tables->codebook;
        return {};
    });
}

Status Bundle::codebook(std::string_view name, std::span<const std::int32_t> sets,
                        std::shared_ptr<const ChannelTables>& out) const {
    return status_of([&]() -> Status {
        const TableGroup* group = nullptr;
        NICRT_RETURN_IF_ERROR(impl_->group(name, group));
        return impl_->codebooks.of_channels(*group, sets, out);
    });
}

Status Bundle::weights(std::string_view name, std::vector<Tensor>& out) const {
    return status_of([&]() -> Status {
        const Graph* graph = nullptr;
        NICRT_RETURN_IF_ERROR(impl_->graph(name, graph));
        if (!graph->native)
            return {Code::unsupported, "graph " + in_quotes(name) + " of this bundle has no native form"};
        std::vector<Tensor> tensors;
        if (graph->native->tensors.size() > 0) {
            const TensorFile* file = nullptr;
            NICRT_RETURN_IF_ERROR(impl_->weights_file(file));
            for (const auto& [key, view] : graph->native->tensors) {
                Tensor& tensor = tensors.emplace_back(Tensor{key, view.dtype, view.shape, {}});
                NICRT_RETURN_IF_ERROR(file->read_corner(key, view.shape, tensor.data));
                if (file->find(key)->dtype != view.dtype ||
                    tensor_leaf(view.dtype, view.shape, tensor.data) != view.sha256)
                    return file->content().refuse("tensor " + in_quotes(key) + " is not the manifest's; " +
                                                  std::string(kAgain));
            }
        }
        NICRT_RETURN_IF_ERROR(check_sums(name, *graph, tensors));
        out = std::move(tensors);
        return {};
    });
}

Status Bundle::onnx(std::string_view name, std::vector<std::uint8_t>& out) const {
    return status_of([&]() -> Status {
        const Graph* graph = nullptr;
        NICRT_RETURN_IF_ERROR(impl_->graph(name, graph));
        if (!graph->onnx)
            return {Code::unsupported, "graph " + in_quotes(name) + " of this bundle has no ONNX form"};
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(impl_->source, graph->onnx->file, kMaxGraphBytes, content));
        Bytes bytes;
        NICRT_RETURN_IF_ERROR(verified(content, graph->onnx->sha256, bytes));
        return with_place(content.place, write_again(bytes, *graph, out));
    });
}

Status Bundle::card(std::string& out) const {
    return status_of([&]() -> Status {
        out.clear();
        if (!impl_->manifest.card) return {};
        ByteRange content;
        NICRT_RETURN_IF_ERROR(
            ByteRange::open(impl_->source, impl_->manifest.card->file, kMaxCardBytes, content));
        Bytes bytes;
        NICRT_RETURN_IF_ERROR(verified(content, impl_->manifest.card->sha256, bytes));
        std::string text(bytes.begin(), bytes.end());
        if (!is_utf8(text)) return content.refuse("not UTF-8 text");
        out = std::move(text);
        return {};
    });
}

Status Bundle::check_parts() const {
    for (const auto& [name, graph] : impl_->manifest.graphs) {
        std::vector<std::uint8_t> model;
        std::vector<Tensor> tensors;
        if (graph.onnx) NICRT_RETURN_IF_ERROR(onnx(name, model));
        if (graph.native) NICRT_RETURN_IF_ERROR(weights(name, tensors));
    }
    std::string text;
    return card(text);
}

Status Bundle::size_bytes(std::uint64_t& out) const {
    return status_of([&] {
        std::uint64_t total = impl_->text().size();
        for (const std::string_view name : files_of(impl_->manifest)) {
            std::uint64_t size = 0;
            NICRT_RETURN_IF_ERROR(impl_->source.size(impl_->source, name, size));
            total += size;
        }
        out = total;
        return Status{};
    });
}

Status Bundle::decoder_bytes(std::uint64_t& out) const {
    return status_of([&] {
        std::set<std::string_view> files{impl_->manifest.tables.file}, tensors;
        for (const std::string_view name : decoding_graphs(impl_->manifest)) {
            const Graph& graph = *impl_->manifest.graphs.find(name);
            if (graph.native)
                for (const auto& [tensor, view] : graph.native->tensors) tensors.insert(tensor);
            else files.insert(graph.onnx->file);
        }
        std::uint64_t total = impl_->text().size();
        for (const std::string_view name : files) {
            std::uint64_t size = 0;
            NICRT_RETURN_IF_ERROR(impl_->source.size(impl_->source, name, size));
            total += size;
        }
        const TensorFile* stored = nullptr;
        if (!tensors.empty()) NICRT_RETURN_IF_ERROR(impl_->weights_file(stored));
        for (const std::string_view name : tensors)
            if (const Stored* const tensor = stored->find(name)) total += tensor->size;
        out = total;
        return Status{};
    });
}

Status Bundle::packed(std::vector<std::uint8_t>& out) const {
    return status_of([&]() -> Status {
        std::vector<ByteRange> files;
        std::uint64_t total = 0;
        for (const std::string_view name : files_of(impl_->manifest)) {
            NICRT_RETURN_IF_ERROR(
                ByteRange::open(impl_->source, name, kMaxWeightsBytes, files.emplace_back()));
            total += files.back().size;
        }
        const std::string header = header_of(impl_->text(), files);
        if (total > SIZE_MAX / 2) return out_of_memory();
        Bytes bytes(8 + header.size() + static_cast<std::size_t>(total));
        store_le(bytes.data(), static_cast<std::uint64_t>(header.size()));
        std::copy(header.begin(), header.end(), bytes.begin() + 8);
        auto rest = std::span(bytes).subspan(8 + header.size());
        for (const ByteRange& file : files) {
            const auto part = rest.first(static_cast<std::size_t>(file.size));
            NICRT_RETURN_IF_ERROR(impl_->source.read(impl_->source, file.name, 0, part));
            rest = rest.subspan(part.size());
        }
        Source memory =
            memory_source(bytes);  // what is checked is what was read, whatever the files are by now
        memory.place = impl_->source.place;
        std::shared_ptr<const Bundle> made;
        NICRT_RETURN_IF_ERROR(open_packed(std::move(memory), made));
        NICRT_RETURN_IF_ERROR(made->check_parts());
        out = std::move(bytes);
        return {};
    });
}

}  // namespace nicrt::bundle
