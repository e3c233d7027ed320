// One pass over the text. A container's items lie on a stack until it ends and its size is known.
#include <algorithm>
#include <cstring>

#include "compiler.hpp"
#include "json/json.hpp"
#include "shown.hpp"
#include "utf8.hpp"

namespace nicrt::json {
namespace {

/// More characters than any number needs: 17 digits are a double, and 767 are enough for the point between
/// two.
constexpr std::size_t kMaxNumberCharacters = 1024;
constexpr std::size_t kBlockBytes = std::size_t{1} << 16;

class Parser {
public:
    Parser(std::string_view text, const Limits& limits, Arena& arena)
        : text_(text), limits_(limits), arena_(arena) {}

    Status run(Value& root) {
        NICRT_RETURN_IF_ERROR(value(root, 0));
        skip_space();
        return place_ == text_.size() ? Status{} : malformed("something behind its end");
    }

private:
    [[nodiscard]] Status malformed(const std::string& what) const {
        return {Code::unsupported, "JSON is malformed: " + what + " (byte " + std::to_string(place_) + ")"};
    }

    static Status too_large() { return {Code::unsupported, "it has more values than there is memory for"}; }

    [[nodiscard]] bool at(char c) const { return place_ < text_.size() && text_[place_] == c; }

    [[nodiscard]] bool at_digit() const {
        return place_ < text_.size() && text_[place_] >= '0' && text_[place_] <= '9';
    }

    bool skip(char c) {
        if (!at(c)) return false;
        ++place_;
        return true;
    }

    void skip_space() {
        while (at(' ') || at('\n') || at('\r') || at('\t')) ++place_;
    }

    Status value(Value& out, unsigned depth) {
        skip_space();
        if (place_ == text_.size()) return malformed("it ends too early");
        switch (text_[place_]) {
            case '{': return object(out, depth + 1);
            case '[': return array(out, depth + 1);
            case '"': {
                out.kind = Kind::text;
                std::string_view text;
                NICRT_RETURN_IF_ERROR(string(text));
                out.text = text.data();
                out.count = static_cast<std::uint32_t>(text.size());
                return {};
            }
            case 't': out.truth = true; return word("true", Kind::boolean, out);
            case 'f': return word("false", Kind::boolean, out);
            case 'n': return word("null", Kind::null, out);
            default: return number(out);
        }
    }

    Status word(std::string_view expected, Kind kind, Value& out) {
        if (text_.substr(place_, expected.size()) != expected) return malformed("invalid character");
        place_ += expected.size();
        out.kind = kind;
        return {};
    }

    Status digits() {
        if (!at_digit()) return malformed("invalid number");
        while (at_digit()) ++place_;
        return {};
    }

    Status number(Value& out) {
        const std::size_t start = place_;
        out.kind = Kind::integer;
        if (!at('-') && !at_digit()) return malformed("invalid character");
        skip('-');
        if (!skip('0')) NICRT_RETURN_IF_ERROR(digits());
        else if (at_digit()) return malformed("invalid number");
        if (skip('.')) {
            out.kind = Kind::real;
            NICRT_RETURN_IF_ERROR(digits());
        }
        if (skip('e') || skip('E')) {
            out.kind = Kind::real;
            if (!skip('-')) skip('+');
            NICRT_RETURN_IF_ERROR(digits());
        }
        if (place_ - start > kMaxNumberCharacters) return malformed("a number of too many digits");
        out.text = text_.data() + start;
        out.count = static_cast<std::uint32_t>(place_ - start);
        return {};
    }

    Status string(std::string_view& out) {
        const std::size_t start = ++place_;
        bool escaped = false;
        while (!at('"')) {
            if (place_ == text_.size()) return malformed("a text without an end");
            if (at('\\')) {
                escaped = true;
                place_ += 2;  // what follows is looked at in `unescape`
                if (place_ > text_.size()) return malformed("a text without an end");
                continue;
            }
            const auto rest = text_.substr(place_);
            const std::size_t count = utf8_bytes(rest);
            if (count == 0 || static_cast<unsigned char>(rest[0]) < 0x20)
                return malformed("a text that is not UTF-8");
            place_ += count;
        }
        out = text_.substr(start, place_ - start);
        ++place_;
        return escaped ? unescape(out) : Status{};
    }

    Status unescape(std::string_view& text) {
        char* const start = arena_.array<char>(text.size());  // an escape is longer than what it stands for
        if (start == nullptr) return too_large();
        char* to = start;
        for (std::string_view rest = text; !rest.empty();) {
            if (rest[0] != '\\') {
                *to++ = rest[0];
                rest.remove_prefix(1);
            } else if (!unescape_one(rest, to)) {
                return malformed("invalid escape in a text");
            }
        }
        text = {start, static_cast<std::size_t>(to - start)};
        return {};
    }

    static bool unescape_one(std::string_view& rest, char*& to) {
        constexpr std::string_view letters = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
        if (const std::size_t known = letters.find(rest[1]); known != std::string_view::npos) {
            *to++ = meant[known];
            rest.remove_prefix(2);
            return true;
        }
        std::uint32_t code = 0;
        if (!code_unit(rest, code) || (code & 0xFC00) == 0xDC00) return false;
        if ((code & 0xFC00) == 0xD800) {  // the first of two that are one character
            std::uint32_t second = 0;
            if (!code_unit(rest, second) || (second & 0xFC00) != 0xDC00) return false;
            code = 0x10000 + ((code & 0x3FF) << 10 | (second & 0x3FF));
        }
        to = write_utf8(code, to);
        return true;
    }

    /// "\uXXXX"
    static bool code_unit(std::string_view& rest, std::uint32_t& code) {
        if (rest.size() < 6 || rest[0] != '\\' || rest[1] != 'u') return false;
        code = 0;
        for (const char c : rest.substr(2, 4)) {
            const int digit = hex_digit(c);
            if (digit < 0) return false;
            code = code << 4 | static_cast<std::uint32_t>(digit);
        }
        rest.remove_prefix(6);
        return true;
    }

    static int hex_digit(char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    }

    Status enter(unsigned depth) {
        ++place_;
        skip_space();
        if (depth <= limits_.depth) return {};
        return {Code::unsupported, "it is nested too deeply"};
    }

    Status array(Value& out, unsigned depth) {
        NICRT_RETURN_IF_ERROR(enter(depth));
        const std::size_t first = items_.size();
        while (!skip(']')) {
            if (items_.size() > first) NICRT_RETURN_IF_ERROR(comma());
            Value item;
            NICRT_RETURN_IF_ERROR(value(item, depth));
            if (!grow(items_, item)) return too_large();
            skip_space();
        }
        out.kind = Kind::array;
        return keep(items_, first, out.items, out.count);
    }

    Status object(Value& out, unsigned depth) {
        NICRT_RETURN_IF_ERROR(enter(depth));
        const std::size_t first = members_.size();
        while (!skip('}')) {
            if (members_.size() > first) NICRT_RETURN_IF_ERROR(comma());
            skip_space();
            if (!at('"')) return malformed("a field without a name");
            Member member;
            NICRT_RETURN_IF_ERROR(string(member.name));
            skip_space();
            if (!skip(':')) return malformed("a field without a value");
            NICRT_RETURN_IF_ERROR(value(member.value, depth));
            if (!grow(members_, member)) return too_large();
            skip_space();
        }
        const std::size_t names_bytes = (members_.size() - first) * sizeof(std::string_view);
        if (!arena_.charge(names_bytes)) return too_large();
        NICRT_RETURN_IF_ERROR(check_unique(std::span(members_).subspan(first)));
        arena_.give_back(names_bytes);
        out.kind = Kind::object;
        return keep(members_, first, out.members, out.count);
    }

    Status comma() { return skip(',') ? Status{} : malformed("a comma is missing"); }

    /// False beyond the budget.
    template <class T>
    [[nodiscard]] bool grow(std::vector<T>& stack, const T& item) const {
        if (stack.size() == stack.capacity()) {
            const std::size_t before = stack.capacity(), more = std::max<std::size_t>(64, 2 * before);
            if (!arena_.charge(more * sizeof(T))) return false;  // for a moment there are both
            stack.reserve(more);
            arena_.give_back(before * sizeof(T));
        }
        stack.push_back(item);
        return true;
    }

    /// Moves a container's items from the stack into the document.
    template <class T>
    Status keep(std::vector<T>& stack, std::size_t first, const T*& out, std::uint32_t& count) {
        count = static_cast<std::uint32_t>(stack.size() - first);
        T* const kept = arena_.array<T>(count);
        if (kept == nullptr) return too_large();
        std::uninitialized_copy(stack.begin() + static_cast<std::ptrdiff_t>(first), stack.end(), kept);
        stack.resize(first);
        out = kept;
        return {};
    }

    /// Of two fields with one name, one reader would believe the first and another the second.
    static Status check_unique(std::span<const Member> members) {
        std::vector<std::string_view> names;
        names.reserve(members.size());
        for (const Member& member : members) names.push_back(member.name);
        std::sort(names.begin(), names.end());
        const auto twice = std::adjacent_find(names.begin(), names.end());
        if (twice == names.end()) return {};
        return {Code::unsupported, "field '" + shown(*twice) + "' is there twice"};
    }

    std::string_view text_;
    const Limits& limits_;
    Arena& arena_;
    std::size_t place_ = 0;
    std::vector<Value> items_;
    std::vector<Member> members_;
};

}  // namespace

void* Arena::take(std::size_t bytes) {
    bytes = (bytes + alignof(std::max_align_t) - 1) / alignof(std::max_align_t) * alignof(std::max_align_t);
    if (bytes > block_left_ || place_ == nullptr) {
        // A large array has a block of its own, which leaves the one before it in use.
        const std::size_t block = std::max(bytes, kBlockBytes);
        if (!charge(block)) return nullptr;
        blocks_.push_back(uninitialised<std::byte>(block));
        if (block > kBlockBytes) return blocks_.back().get();
        place_ = blocks_.back().get();
        block_left_ = block;
    }
    std::byte* const taken = place_;
    place_ += bytes;
    block_left_ -= bytes;
    return taken;
}

Status Document::parse(std::string text, const Limits& limits, std::unique_ptr<const Document>& out) {
    if (text.size() > UINT32_MAX) return {Code::unsupported, "it is too large"};
    std::unique_ptr<Document> document(new Document(std::move(text), limits.memory_bytes));
    NICRT_RETURN_IF_ERROR(Parser(document->text_, limits, document->arena_).run(document->root_));
    out = std::move(document);
    return {};
}

}  // namespace nicrt::json
