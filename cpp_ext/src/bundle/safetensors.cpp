#include "bundle/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "bundle/check.hpp"
#include "bytes.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxTensorExtent = std::uint64_t{1} << 40;
constexpr std::size_t kMaxDimensions = 8, kMaxEntries = std::size_t{1} << 16;  // of tensors and metadata
constexpr std::size_t kHeaderMemoryBytes = std::size_t{32} << 20;              // which they do not need
constexpr std::string_view kMetadata = "__metadata__";

Status bad_header(const std::string& what) { return {Code::unsupported, what}; }

bool element_of(std::string_view code, Element& out) {
    constexpr std::pair<std::string_view, Element> codes[]{
        {"F32", Element::float32}, {"F16", Element::float16}, {"I64", Element::int64},
        {"I32", Element::int32},   {"I16", Element::int16},   {"I8", Element::int8},
        {"U16", Element::uint16},  {"U8", Element::uint8}};
    for (const auto& [text, element] : codes)
        if (code == text) {
            out = element;
            return true;
        }
    return false;
}

/// A whole number from 0 up to `most`.
bool number(const json::Value& value, std::uint64_t most, std::uint64_t& out) {
    if (value.kind != json::Kind::integer) return false;
    const auto parsed = json::to_integer(value);
    if (!parsed || *parsed < 0 || static_cast<std::uint64_t>(*parsed) > most) return false;
    out = static_cast<std::uint64_t>(*parsed);
    return true;
}

/// Bytes of a tensor; UINT64_MAX for more than that.
std::uint64_t bytes_of(const Stored& stored) {
    if (std::find(stored.shape.begin(), stored.shape.end(), 0U) != stored.shape.end()) return 0;
    std::uint64_t bytes = bytes_of(stored.dtype);
    for (const std::uint64_t extent : stored.shape) {
        if (bytes > UINT64_MAX / extent) return UINT64_MAX;
        bytes *= extent;
    }
    return bytes;
}

bool are_texts(const json::Value& value) {
    if (value.kind != json::Kind::object) return false;
    for (const json::Member& member : value.object())
        if (member.value.kind != json::Kind::text) return false;
    return true;
}

bool by_name(const NamedTensor& a, const NamedTensor& b) { return a.first < b.first; }

Status read_entry(std::string_view name, const json::Value& entry, Stored& out) {
    const auto malformed = [&] { return bad_header("tensor " + in_quotes(name) + " has a malformed entry"); };
    if (entry.kind != json::Kind::object || entry.count != 3) return malformed();
    const json::Value* const dtype = json::find(entry, "dtype");
    const json::Value* const shape = json::find(entry, "shape");
    const json::Value* const offsets = json::find(entry, "data_offsets");
    if (dtype == nullptr || shape == nullptr || offsets == nullptr || dtype->kind != json::Kind::text ||
        shape->kind != json::Kind::array || shape->count > kMaxDimensions ||
        offsets->kind != json::Kind::array || offsets->count != 2)
        return malformed();
    out.shape.reserve(shape->count);
    for (const json::Value& extent : shape->array())
        if (!number(extent, kMaxTensorExtent, out.shape.emplace_back())) return malformed();
    std::uint64_t end = 0;
    if (!number(offsets->array()[0], INT64_MAX, out.start) || !number(offsets->array()[1], INT64_MAX, end))
        return malformed();
    if (!element_of(dtype->characters(), out.dtype))
        return bad_header("tensor " + in_quotes(name) + " is of type " + shown(dtype->characters()));
    out.size = bytes_of(out);
    if (end < out.start || end - out.start != out.size)
        return bad_header("tensor " + in_quotes(name) + " is not where or as large as it should be");
    return {};
}

}  // namespace

Status ByteRange::open(const Source& source, std::string_view name, std::uint64_t most_bytes,
                       ByteRange& out) {
    ByteRange content{&source, name, source.place, 0};
    if (!name.empty()) content.place += ": " + shown(name);
    NICRT_RETURN_IF_ERROR(source.size(source, name, content.size));
    if (content.size > most_bytes)
        return content.refuse("larger than " + std::to_string(most_bytes) + " bytes");
    out = std::move(content);
    return {};
}

Status TensorFile::open(const ByteRange& content, TensorFile& out) {
    TensorFile file;
    file.content_ = content;
    Bytes bytes;
    NICRT_RETURN_IF_ERROR(content.read(0, 8, bytes));
    const auto header_bytes = load_le<std::uint64_t>(bytes.data());
    if (header_bytes > std::min(kMaxHeaderBytes, content.size - 8))
        return content.refuse("not a safetensors file");
    std::string text;
    NICRT_RETURN_IF_ERROR(content.read(8, header_bytes, text));
    Status status = json::Document::parse(std::move(text), {8, kHeaderMemoryBytes}, file.header_);
    if (status.ok()) status = file.check_header(8 + header_bytes);
    if (status.ok()) out = std::move(file);
    return status.code() == Code::unsupported ? content.refuse(status.message()) : status;
}

Status TensorFile::check_header(std::uint64_t data_start) {
    const json::Value& root = header_->root();
    if (root.kind != json::Kind::object) return bad_header("its header is not an object");
    metadata_ = json::find(root, kMetadata);
    const std::size_t texts = metadata_ == nullptr ? 0 : metadata_->count;
    if (texts > kMaxEntries || root.count - (metadata_ == nullptr ? 0 : 1) > kMaxEntries - texts)
        return bad_header("it has more than " + std::to_string(kMaxEntries) + " tensors and texts");
    tensors_.reserve(root.count);
    for (const json::Member& member : root.object()) {
        if (member.name == kMetadata) {
            if (!are_texts(member.value)) return bad_header("its metadata are not texts");
            continue;
        }
        tensors_.emplace_back(member.name, Stored{});
        NICRT_RETURN_IF_ERROR(read_entry(member.name, member.value, tensors_.back().second));
    }
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
        return std::tuple(a.second.start, a.second.size, a.first) <
               std::tuple(b.second.start, b.second.size, b.first);
    });
    std::uint64_t end = 0;
    for (auto& [name, stored] : tensors_) {
        if (stored.start != end)
            return bad_header("tensor " + in_quotes(name) + " is not where or as large as it should be");
        end += stored.size;
        stored.start += data_start;
    }
    std::sort(tensors_.begin(), tensors_.end(), by_name);
    return data_start + end == content_.size ? Status{} : bad_header("its tensors are not all of its data");
}

const Stored* TensorFile::find(std::string_view name) const {
    const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), NamedTensor{name, {}}, by_name);
    return found == tensors_.end() || found->first != name ? nullptr : &found->second;
}

std::optional<std::string_view> TensorFile::metadata(std::string_view name) const {
    const json::Value* const text = metadata_ == nullptr ? nullptr : json::find(*metadata_, name);
    if (text == nullptr) return std::nullopt;
    return text->characters();
}

Status TensorFile::read_corner(std::string_view name, std::span<const std::int32_t> shape, Bytes& out) const {
    const Stored* const stored = find(name);
    if (stored == nullptr)
        return content_.refuse("it lacks " + in_quotes(name) + "; export or install it again");
    bool fits = shape.size() == stored->shape.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i)
        fits = static_cast<std::uint64_t>(shape[i]) <= stored->shape[i];
    if (!fits || shape.empty() || stored->size == 0)
        return content_.refuse(in_quotes(name) + " is smaller than what is used of it; install it again");
    Bytes rows;
    const std::uint64_t first = static_cast<std::uint64_t>(shape[0]);
    NICRT_RETURN_IF_ERROR(content_.read(stored->start, stored->size / stored->shape[0] * first, rows));
    // Rows of the last dimension move forward to where they belong, each before or at the place that it
    // leaves.
    const std::size_t last = shape.size() - 1, width = bytes_of(stored->dtype);
    const std::size_t kept = static_cast<std::size_t>(shape[last]) * width;
    std::vector<std::size_t> pitch(shape.size(), width);  // bytes from one place of a dimension to the next
    for (std::size_t i = last; i-- > 0;)
        pitch[i] = pitch[i + 1] * static_cast<std::size_t>(stored->shape[i + 1]);
    std::vector<std::int32_t> place(shape.size(), 0);
    std::size_t to = 0;
    for (bool more = true; more;) {
        std::size_t from = 0;
        for (std::size_t i = 0; i < last; ++i) from += static_cast<std::size_t>(place[i]) * pitch[i];
        std::memmove(rows.data() + to, rows.data() + from, kept);
        to += kept;
        more = false;
        for (std::size_t i = last; i-- > 0 && !more;) {
            more = ++place[i] < shape[i];
            if (!more) place[i] = 0;
        }
    }
    rows.resize(to);
    out = std::move(rows);
    return {};
}

}  // namespace nicrt::bundle
