// Protobuf's wire format, in its one shortest form: what another reader could take for something else is
// refused.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "nicrt/status.hpp"

namespace nicrt::onnx {

using Bytes = std::span<const std::uint8_t>;

inline Status unsupported(std::string message) {
    return {Code::unsupported, "the ONNX model " + std::move(message)};
}

enum class Wire : std::uint8_t { varint = 0, length = 2, fixed32 = 5 };

enum class Use : std::uint8_t {
    once,  ///< protobuf would let a second one replace, or be merged with, the first
    many,
    dropped,  ///< says nothing about what the model computes: passed over, and not written again
};

/// A field that a message may have.
struct Rule {
    std::uint32_t number;
    Wire wire;
    Use use = Use::once;
};

struct Field {
    std::uint32_t number = 0;
    std::uint64_t value = 0;  ///< of a varint, or the bits of a fixed32
    Bytes bytes;              ///< of a length-delimited field
};

class WireReader {
public:
    explicit WireReader(Bytes data) : data_(data) {}

    [[nodiscard]] bool at_end() const { return data_.empty(); }

    /// False for a number that is cut off, longer than it has to be, or above 2^64 - 1.
    bool varint(std::uint64_t& value) {
        value = 0;
        for (unsigned i = 0; i < std::min<std::size_t>(data_.size(), 10); ++i) {
            const std::uint8_t byte = data_[i];
            if (i == 9 && byte > 1) return false;
            value |= std::uint64_t{byte & 0x7Fu} << (7 * i);
            if (byte >= 0x80) continue;
            data_ = data_.subspan(i + 1);
            return byte != 0 || i == 0;
        }
        return false;
    }

    bool take(std::uint64_t count, Bytes& out) {
        if (count > data_.size()) return false;
        out = data_.first(static_cast<std::size_t>(count));
        data_ = data_.subspan(out.size());
        return true;
    }

    bool content(Wire wire, Field& field) {
        if (wire == Wire::varint) return varint(field.value);
        if (wire == Wire::length) return varint(field.value) && take(field.value, field.bytes);
        Bytes four;
        if (!take(4, four)) return false;
        field.value = std::uint64_t{four[0]} | std::uint64_t{four[1]} << 8 | std::uint64_t{four[2]} << 16 |
                      std::uint64_t{four[3]} << 24;
        return true;
    }

private:
    Bytes data_;
};

/// Calls visit(field) -> Status for each field of a message, but for those that are dropped. Refuses fields
/// that the rules do not have, or have with another wire type, and a second one of what may be there once.
template <std::size_t N, class Visit>
Status for_each_field(Bytes data, const char* message, const Rule (&rules)[N], Visit visit) {
    static_assert(N <= 32);
    std::uint32_t seen = 0;
    for (WireReader reader(data); !reader.at_end();) {
        std::uint64_t key = 0;
        if (!reader.varint(key) || key > UINT32_MAX || key < 8)
            return unsupported(std::string("has a malformed field in its ") + message);
        Field field;
        field.number = static_cast<std::uint32_t>(key >> 3);
        const Rule* const rule =
            std::find_if(rules, rules + N, [&](const Rule& r) { return r.number == field.number; });
        const std::string what = " field " + std::to_string(field.number) + " of its " + message;
        if (rule == rules + N) return unsupported("has" + what + ", which bundles may not");
        if ((key & 7) != static_cast<std::uint64_t>(rule->wire))
            return unsupported("has a wrong wire type in" + what);
        if (!reader.content(rule->wire, field)) return unsupported("is cut off or malformed in" + what);
        if (rule->use == Use::dropped) continue;
        const std::uint32_t bit = std::uint32_t{1} << (rule - rules);
        if (rule->use == Use::once && (seen & bit) != 0) return unsupported("has twice" + what);
        seen |= bit;
        NICRT_RETURN_IF_ERROR(visit(field));
    }
    return {};
}

constexpr std::size_t varint_bytes(std::uint64_t value) {
    std::size_t count = 1;
    for (; value >= 0x80; value >>= 7) ++count;
    return count;
}

/// Counts what a Writer would write.
class Counter {
public:
    void varint(std::uint64_t value) { bytes_ += varint_bytes(value); }
    void raw(Bytes bytes) { bytes_ += bytes.size(); }
    template <class Put>
    void nested(std::size_t bytes, const Put&) {
        bytes_ += bytes;
    }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
    std::size_t bytes_ = 0;
};

/// Writes to memory that a Counter has measured.
class Writer {
public:
    explicit Writer(std::uint8_t* out) : out_(out) {}

    void varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) *out_++ = static_cast<std::uint8_t>(value | 0x80);
        *out_++ = static_cast<std::uint8_t>(value);
    }
    void raw(Bytes bytes) {
        if (!bytes.empty()) std::memcpy(out_, bytes.data(), bytes.size());
        out_ += bytes.size();
    }
    template <class Put>
    void nested(std::size_t, const Put& put) {
        put(*this);
    }

private:
    std::uint8_t* out_;
};

template <class Out>
void put_number(Out& out, std::uint32_t field, std::int64_t value) {
    out.varint(std::uint64_t{field} << 3 | static_cast<unsigned>(Wire::varint));
    out.varint(static_cast<std::uint64_t>(value));
}

template <class Out>
void put_float(Out& out, std::uint32_t field, float value) {
    std::uint8_t bytes[4];
    std::memcpy(bytes, &value, 4);
    out.varint(std::uint64_t{field} << 3 | static_cast<unsigned>(Wire::fixed32));
    out.raw(bytes);
}

template <class Out>
void put_bytes(Out& out, std::uint32_t field, Bytes bytes) {
    out.varint(std::uint64_t{field} << 3 | static_cast<unsigned>(Wire::length));
    out.varint(bytes.size());
    out.raw(bytes);
}

template <class Out>
void put_text(Out& out, std::uint32_t field, std::string_view text) {
    put_bytes(out, field, Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

/// A message whose fields `put` writes.
template <class Out, class Put>
void put_message(Out& out, std::uint32_t field, const Put& put) {
    Counter counter;
    put(counter);
    out.varint(std::uint64_t{field} << 3 | static_cast<unsigned>(Wire::length));
    out.varint(counter.bytes());
    out.nested(counter.bytes(), put);
}

}  // namespace nicrt::onnx
