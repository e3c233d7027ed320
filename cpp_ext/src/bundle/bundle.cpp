#include "nicrt/bundle.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "bundle/check.hpp"
#include "bundle/ids.hpp"
#include "bundle/manifest.hpp"
#include "bundle/parts.hpp"
#include "bundle/safetensors.hpp"
#include "bundle/tables.hpp"
#include "parallel.hpp"
#include "sha256.hpp"
#include "utf8.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::string_view kManifestFile = "manifest.json", kPackedManifest = "nicrt.manifest";
constexpr std::uint64_t kMaxTablesBytes = 64 << 20, kMaxGraphBytes = 512 << 20, kMaxWeightsBytes = 1 << 30;
constexpr std::uint64_t kMaxCardBytes = 1 << 20;
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

Status with_place(const std::string& place, const Status& status) {
    return status.ok() ? status : Status{status.code(), place + ": " + status.message()};
}

Status verified(const ByteRange& content, std::string_view sha256, Bytes& out) {
    NICRT_RETURN_IF_ERROR(content.all(out));
    Sha256 sha;
    sha.update(out);
    if (sha.hex_digest() == sha256) return {};
    return content.refuse("not the file that the manifest lists; " + std::string(kAgain));
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

    Status read(std::string text);
    Status read_tables();
    Status check_ids();
    Status weights_file(const TensorFile*& out) const;
    Status graph(std::string_view name, const Graph*& out) const;
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
    for (const auto& [name, leaf] : manifest.tables.groups) {
        TableGroup& group = groups[name];
        NICRT_RETURN_IF_ERROR(read_group(file, name, group));
        if (group.leaf() != leaf)
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
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(impl->source, kManifestFile, kMaxManifestBytes, content));
        Bytes text;
        NICRT_RETURN_IF_ERROR(content.all(text));
        NICRT_RETURN_IF_ERROR(impl->read({text.begin(), text.end()}));
        out.reset(new Bundle(std::move(impl)));
        return Status{};
    });
}

Status Bundle::open_packed(Source source, std::shared_ptr<const Bundle>& out) {
    return status_of([&] {
        auto packed = std::make_shared<Packed>();
        packed->base = std::move(source);
        ByteRange content;
        NICRT_RETURN_IF_ERROR(ByteRange::open(packed->base, "", UINT64_MAX, content));
        NICRT_RETURN_IF_ERROR(TensorFile::open(content, packed->file));
        const auto text = packed->file.metadata(kPackedManifest);
        if (!text) return content.refuse("a safetensors file, but not a packed codec bundle");
        auto impl = std::make_unique<Impl>();
        impl->source = {packed->base.place, packed, size_in_packed, read_packed};
        NICRT_RETURN_IF_ERROR(impl->read(std::string(*text)));
        const auto files = files_of(impl->manifest);
        for (const auto& [name, stored] : packed->file.tensors())
            if (!std::binary_search(files.begin(), files.end(), name))
                return content.refuse(in_quotes(name) + " in it is no part of the bundle");
        out.reset(new Bundle(std::move(impl)));
        return Status{};
    });
}

const Manifest& Bundle::manifest() const { return impl_->manifest; }

std::string_view Bundle::graph_hash(std::string_view graph) const {
    const auto found = impl_->hashes.find(graph);
    return found == impl_->hashes.end() ? std::string_view{} : found->second;
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

}  // namespace nicrt::bundle
