// Files of tensors in the format safetensors, stricter than others read it: tensors fill the data without
// gaps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json/json.hpp"
#include "nicrt/bundle.hpp"
#include "nicrt/native_form.hpp"
#include "nicrt/status.hpp"

namespace nicrt::bundle {

using Bytes = std::vector<std::uint8_t>;

/// A file of a bundle. place: for messages.
struct ByteRange {
    const Source* source = nullptr;
    std::string_view name;
    std::string place;
    std::uint64_t size = 0;

    /// unsupported: missing, or larger than `most_bytes`.
    static Status open(const Source& source, std::string_view name, std::uint64_t most_bytes, ByteRange& out);

    /// out: a vector of numbers, or a text.
    template <class Buffer>
    Status read(std::uint64_t start, std::uint64_t count, Buffer& out) const {
        if (start > size || count > size - start)
            return refuse("it ends before byte " + std::to_string(start + count));
        if (count > SIZE_MAX / 2) return out_of_memory();
        constexpr std::size_t each = sizeof(typename Buffer::value_type);  // little-endian, as the host
        out.resize(static_cast<std::size_t>(count) / each);
        return source->read(*source, name, start,
                            {reinterpret_cast<std::uint8_t*>(out.data()), out.size() * each});
    }
    template <class Buffer>
    Status all(Buffer& out) const {
        return read(0, size, out);
    }
    [[nodiscard]] Status refuse(const std::string& what) const {
        return {Code::unsupported, place + ": " + what};
    }
};

/// Type and shape of a tensor, and where its bytes lie in the file.
struct Stored {
    Element dtype = Element::uint8;
    std::vector<std::uint64_t> shape;
    std::uint64_t start = 0, size = 0;
};

using NamedTensor = std::pair<std::string_view, Stored>;

class TensorFile {
public:
    /// Reads and checks the header. unsupported for what is no such file.
    static Status open(const ByteRange& content, TensorFile& out);

    [[nodiscard]] const ByteRange& content() const { return content_; }
    /// By name.
    [[nodiscard]] const std::vector<NamedTensor>& tensors() const { return tensors_; }
    [[nodiscard]] const Stored* find(std::string_view name) const;

    /// A text of the file's metadata; none where it is not there.
    [[nodiscard]] std::optional<std::string_view> metadata(std::string_view name) const;

    template <class Buffer>
    Status read(const Stored& stored, Buffer& out) const {
        return content_.read(stored.start, stored.size, out);
    }

    /// Of each dimension the first `shape` places. Reads up to the last of the first dimension.
    Status read_corner(std::string_view name, std::span<const std::int32_t> shape, Bytes& out) const;

private:
    Status check_header(std::uint64_t data_start);

    ByteRange content_;
    std::unique_ptr<const json::Document> header_;
    const json::Value* metadata_ = nullptr;
    std::vector<NamedTensor> tensors_;
};

}  // namespace nicrt::bundle
