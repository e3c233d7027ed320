// Codec bundles (docs/BUNDLE.md): opened and checked, their parts read and hashed when they are used. A
// bundle is untrusted input: whatever is wrong with it is Code::unsupported, in one line that names it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/codebook.hpp"
#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#define NICRT_HAS_FILES 1  // elsewhere bundles are in memory, or where a host's functions read them
#endif

namespace nicrt::bundle {

/// Where a bundle's files lie. Functions may be called on several threads at once.
struct Source {
    std::string place;  ///< for messages
    std::shared_ptr<void> context;
    /// Bytes of a file. unsupported where there is none of this name.
    Status (*size)(const Source& source, std::string_view name, std::uint64_t& out) = nullptr;
    /// Fills `out` with the bytes from `start` on. unsupported where there are fewer.
    Status (*read)(const Source& source, std::string_view name, std::uint64_t start,
                   std::span<std::uint8_t> out) = nullptr;
};

/// One file, named "", of these bytes, which must outlive the source, or which `keeper` keeps.
[[nodiscard]] Source memory_source(std::span<const std::uint8_t> bytes,
                                   std::shared_ptr<void> keeper = nullptr);

#ifdef NICRT_HAS_FILES
/// The files below a folder. Regular files alone: a pipe in the place of one would be waited for without end.
[[nodiscard]] Source folder_source(std::string folder);

/// One file, named "".
[[nodiscard]] Source file_source(std::string path);
#endif

/// What a native form uses of a stored tensor: a copy, its hash checked.
struct Tensor {
    std::string_view name;
    Element dtype = Element::float32;
    std::vector<std::int32_t> shape;
    std::vector<std::uint8_t> data;  ///< little-endian, the last dimension first in memory
};

/// The tables of a stream that is coded by channel.
struct ChannelTables {
    std::shared_ptr<const Codebook> codebook;  ///< the distinct ones
    std::vector<std::uint8_t> channels;        ///< of each channel the number of its table in the codebook
};

/// A bundle whose manifest, tables and ids have been checked. Immutable and safe to use from many threads.
class Bundle {
public:
    /// A bundle whose files the source has by the names that the manifest gives them, `manifest.json` among
    /// them.
    static Status open(Source source, std::shared_ptr<const Bundle>& out);

    /// A packed bundle: the source's file "".
    static Status open_packed(Source source, std::shared_ptr<const Bundle>& out);

#ifdef NICRT_HAS_FILES
    /// A folder, or a packed file.
    static Status open_path(const std::string& path, std::shared_ptr<const Bundle>& out);
#endif

    ~Bundle();

    [[nodiscard]] const Manifest& manifest() const;

    /// Bytes of all files.
    Status size_bytes(std::uint64_t& out) const;

    /// Bytes of what decoding reads: the manifest, the tables, and of each graph that any program runs when
    /// decoding one form, the native one where there is one. A stored tensor counts once, and whole.
    Status decoder_bytes(std::uint64_t& out) const;

    /// Hex SHA-256 over what a graph of the manifest computes.
    [[nodiscard]] std::string_view graph_hash(std::string_view graph) const;

    /// All tables of a group, in its order, for a stream whose index tensor picks among them. Kept for the
    /// next one who asks. invalid_argument: no group of this name, or one of more tables than a codebook has.
    Status codebook(std::string_view group, std::shared_ptr<const Codebook>& out) const;

    /// The tables of a group with a channel map. sets: the number of one set for all channels, or each
    /// channel's own. Kept as above. invalid_argument: a set or group that is not there, or another number of
    /// sets; unsupported: more than 256 tables in one stream.
    Status codebook(std::string_view group, std::span<const std::int32_t> sets,
                    std::shared_ptr<const ChannelTables>& out) const;

    /// What the native form of a graph uses of the stored tensors, in the order of its `tensors`.
    Status weights(std::string_view graph, std::vector<Tensor>& out) const;

    /// The ONNX model of a graph, read and written again: what any library gets is our writing.
    Status onnx(std::string_view graph, std::vector<std::uint8_t>& out) const;

    /// The model card, Markdown; empty where there is none.
    Status card(std::string& out) const;

    /// Reads every part.
    Status check_parts() const;

    /// The bundle in one file, the same bytes for the same bundle. All parts have been checked in what is
    /// given here, each of whose files is read once.
    Status packed(std::vector<std::uint8_t>& out) const;

private:
    struct Impl;
    explicit Bundle(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

#ifdef NICRT_HAS_FILES
/// The manifest alone, of a folder or a packed file: its fields have been checked, and nothing else. For
/// lists of bundles, and to find one.
Status read_manifest_of(const std::string& path, Manifest& out);
#endif

/// For exporters: the text of a manifest whose hashes of tables, tensors and files, and whose ids, say
/// nothing yet → the one with those that follow from the files of the source, checked as when it is opened.
Status finish_manifest(const Source& source, std::string text, std::string& out);

/// For exporters and tests: the entry of one graph in a manifest, JSON, of which the fields alone have been
/// checked. Its names are views of `text_kept`.
Status read_graph_entry(std::string_view name, std::string text, Graph& out,
                        std::shared_ptr<const void>& text_kept);

/// For exporters: checks the entry of one graph in a manifest, JSON, and gives what `Bundle::graph_hash`
/// would.
Status check_graph_entry(std::string_view name, std::string text, std::string& hash);

}  // namespace nicrt::bundle
