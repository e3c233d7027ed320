// JSON (RFC 8259), read strictly: UTF-8 without a byte order mark, no two fields of one name, bounded depth
// and memory. Numbers stay texts until it is known whether an integer or a real is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nicrt/status.hpp"

namespace nicrt::json {

enum class Kind : std::uint8_t { null, boolean, integer, real, text, array, object };

/// As messages call it.
[[nodiscard]] std::string_view name_of(Kind kind);

struct Member;

/// Texts, items and members are in the document's memory.
struct Value {
    Kind kind = Kind::null;
    bool truth = false;       ///< of a boolean
    std::uint32_t count = 0;  ///< bytes of a text or number, items, members
    union {
        const char* text = nullptr;
        const Value* items;
        const Member* members;
    };

    /// Of a text, or the characters of a number.
    [[nodiscard]] std::string_view characters() const { return {text, count}; }
    [[nodiscard]] std::span<const Value> array() const { return {items, count}; }
    [[nodiscard]] inline std::span<const Member> object() const;
};

struct Member {
    std::string_view name;
    Value value;
};

inline std::span<const Member> Value::object() const { return {members, count}; }

/// The member of this name; nullptr where there is none.
[[nodiscard]] const Value* find(const Value& object, std::string_view name);

/// Of a number without fraction and exponent; none beyond 64 bits.
[[nodiscard]] std::optional<std::int64_t> to_integer(const Value& number);

/// Of any number, the nearest double; none beyond the largest.
[[nodiscard]] std::optional<double> to_real(const Value& number);

/// Memory in blocks that are freed together, within a budget that others may take from too. Throws
/// std::bad_alloc.
class Arena {
public:
    explicit Arena(std::size_t budget_bytes) : left_(budget_bytes) {}

    /// nullptr beyond the budget. For trivial types alone.
    template <class T>
    T* array(std::size_t count) {
        return count > left_ / sizeof(T) ? nullptr : static_cast<T*>(take(count * sizeof(T)));
    }

    /// Takes bytes of the budget alone; false where there are fewer.
    [[nodiscard]] bool charge(std::size_t bytes) {
        if (bytes > left_) return false;
        left_ -= bytes;
        return true;
    }
    void give_back(std::size_t bytes) { left_ += bytes; }

private:
    void* take(std::size_t bytes);

    std::vector<std::unique_ptr<std::byte[]>> blocks_;
    std::size_t left_, block_left_ = 0;
    std::byte* place_ = nullptr;
};

/// memory_bytes: of the tree and of what making it takes, besides the text.
struct Limits {
    unsigned depth = 64;
    std::size_t memory_bytes = std::size_t{24} << 20;
};

/// A text and the tree that was made of it.
class Document {
public:
    /// unsupported: it is no JSON, or beyond the limits; the message goes on from the name of what was read.
    static Status parse(std::string text, const Limits& limits, std::unique_ptr<const Document>& out);

    [[nodiscard]] const Value& root() const { return root_; }
    [[nodiscard]] std::string_view text() const { return text_; }

private:
    Document(std::string text, std::size_t memory_bytes) : text_(std::move(text)), arena_(memory_bytes) {}

    std::string text_;
    Arena arena_;
    Value root_;
};

}  // namespace nicrt::json
