// Values of a document, and numbers between their text and their bits, whatever the process's locale is.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "json/json.hpp"
#include "json/write.hpp"

namespace nicrt::json {
namespace {

constexpr long kMostExponent =
    1'000'000;  // beyond it the number is 0 or none, with as many digits as it may have

/// The exponent behind an "e".
long exponent_of(std::string_view text) {
    const bool negative = !text.empty() && text[0] == '-';
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    long value = 0;
    for (const char digit : text) value = std::min(kMostExponent, value * 10 + (digit - '0'));
    return negative ? -value : value;
}

/// "D<point>DDDe+XX", whatever the point is in the locale, as JSON without needless zeros.
std::string spelled(const char* from) {
    std::string text;
    if (*from == '-') text += *from++;
    std::string digits(1, *from++);
    for (; *from != 'e'; ++from)
        if (*from >= '0' && *from <= '9') digits += *from;
    while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
    const long exponent = exponent_of(from + 1);
    if (exponent < -4 || exponent > 14) {
        text += digits[0];
        if (digits.size() > 1) text.append(1, '.').append(digits, 1);
        return text.append("e").append(std::to_string(exponent));
    }
    if (exponent < 0)
        return text.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digits);
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() <= whole) return text.append(digits).append(whole - digits.size(), '0').append(".0");
    return text.append(digits, 0, whole).append(".").append(digits, whole);
}

}  // namespace

std::string_view name_of(Kind kind) {
    switch (kind) {
        case Kind::null: return "null";
        case Kind::boolean: return "bool";
        case Kind::integer: return "int";
        case Kind::real: return "float";
        case Kind::text: return "str";
        case Kind::array: return "array";
        case Kind::object: break;
    }
    return "object";
}

const Value* find(const Value& object, std::string_view name) {
    for (const Member& member : object.object())
        if (member.name == name) return &member.value;
    return nullptr;
}

std::optional<std::int64_t> to_integer(const Value& number) {
    const std::string_view text = number.characters();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<double> to_real(const Value& number) {
    const std::string_view text = number.characters();
    const std::size_t e = std::min(text.find_first_of("eE"), text.size());
    long exponent = e < text.size() ? exponent_of(text.substr(e + 1)) : 0;
    // Without its point, which strtod would look for in the locale's spelling.
    std::string digits(text.substr(0, e));
    if (const std::size_t point = digits.find('.'); point != std::string::npos) {
        exponent -= static_cast<long>(digits.size() - point - 1);
        digits.erase(point, 1);
    }
    digits.append("e").append(std::to_string(exponent));
    const double value = std::strtod(digits.c_str(), nullptr);
    if (!std::isfinite(value)) return std::nullopt;
    if (number.kind == Kind::integer && value == 0) return 0.0;  // -0 is an integer, which has no sign
    return value;
}

std::string text_of(double value) {
    if (std::abs(value) < 1e15 && value == std::trunc(value)) {
        std::string text(value == 0 && std::signbit(value) ? 1 : 0, '-');
        return text.append(std::to_string(static_cast<std::int64_t>(value))).append(".0");
    }
    char buffer[40];
    for (int digits = 15; digits <= 17; ++digits) {  // 17 are always enough
        std::snprintf(buffer, sizeof buffer, "%.*e", digits - 1, value);
        std::string text = spelled(buffer);
        Value number;
        number.kind = Kind::real;
        number.text = text.data();
        number.count = static_cast<std::uint32_t>(text.size());
        if (digits == 17 || to_real(number) == value) return text;
    }
    return {};
}

void quote(std::string_view text, std::string& out) {
    constexpr std::string_view meant = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
    out += '"';
    for (const char c : text) {
        if (const std::size_t known = meant.find(c); known != std::string_view::npos) {
            out += '\\';
            out += letters[known];
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char escape[7];
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
            out += escape;
        } else {
            out += c;
        }
    }
    out += '"';
}

std::string text_of(const Value& value) {
    switch (value.kind) {
        case Kind::null: return "null";
        case Kind::boolean: return value.truth ? "true" : "false";
        case Kind::integer: return value.characters() == "-0" ? "0" : std::string(value.characters());
        case Kind::real: return text_of(to_real(value).value_or(0));
        case Kind::text: break;
        case Kind::array: {
            List list;
            for (const Value& item : value.array()) list.add(text_of(item));
            return list.close();
        }
        case Kind::object: {
            Object object;
            for (const Member& member : value.object()) object.add(member.name, text_of(member.value));
            return object.close();
        }
    }
    std::string text;
    quote(value.characters(), text);
    return text;
}

void List::add(std::string_view item) {
    text_ += text_.empty() ? '[' : ',';
    text_ += item;
}

std::string List::close() {
    if (text_.empty()) text_ += '[';
    return std::move(text_) + ']';
}

std::string Object::close() {
    if (sorted_) std::sort(members_.begin(), members_.end());
    std::string text = "{";
    for (const auto& [name, value] : members_) {
        if (text.size() > 1) text += ',';
        quote(name, text);
        text += ':';
        text += value;
    }
    return text + '}';
}

}  // namespace nicrt::json
