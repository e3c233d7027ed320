// Codec bundles (docs/BUNDLE.md): opened and checked, their parts read and hashed when they are used. A
// bundle is untrusted input: whatever is wrong with it is Code::unsupported, in one line that names it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/manifest.hpp"
#include "nicrt/status.hpp"

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

#if defined(__unix__) || defined(__APPLE__)
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

/// A bundle whose manifest, tables and ids have been checked. Immutable and safe to use from many threads.
class Bundle {
public:
    /// A bundle whose files the source has by the names that the manifest gives them, `manifest.json` among
    /// them.
    static Status open(Source source, std::shared_ptr<const Bundle>& out);

    /// A packed bundle: the source's file "".
    static Status open_packed(Source source, std::shared_ptr<const Bundle>& out);

#if defined(__unix__) || defined(__APPLE__)
    /// A folder, or a packed file.
    static Status open_path(const std::string& path, std::shared_ptr<const Bundle>& out);
#endif

    ~Bundle();

    [[nodiscard]] const Manifest& manifest() const;

    /// Hex SHA-256 over what a graph of the manifest computes.
    [[nodiscard]] std::string_view graph_hash(std::string_view graph) const;

    /// What the native form of a graph uses of the stored tensors, in the order of its `tensors`.
    Status weights(std::string_view graph, std::vector<Tensor>& out) const;

    /// The ONNX model of a graph, read and written again: what any library gets is our writing.
    Status onnx(std::string_view graph, std::vector<std::uint8_t>& out) const;

    /// The model card, Markdown; empty where there is none.
    Status card(std::string& out) const;

    /// Reads every part.
    Status check_parts() const;

private:
    struct Impl;
    explicit Bundle(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace nicrt::bundle
