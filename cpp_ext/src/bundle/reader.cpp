#include "bundle/reader.hpp"

#include <array>

#include "shown.hpp"

namespace nicrt::bundle {
namespace {

using json::Kind;

constexpr std::size_t kMaxMessageBytes = 300;
constexpr unsigned kProvenanceDepth = 32;  // the only part without a schema

constexpr std::array<std::string_view, 8> kElementNames{"float32", "float16", "int64",  "int32",
                                                        "int16",   "int8",    "uint16", "uint8"};

/// A bound as msgspec writes a double: with a point or an exponent.
std::string real_text(double value) { return value == 0 ? "0.0" : std::to_string(value); }

/// Whether a value has more than so many levels.
bool is_deeper(const json::Value& value, unsigned levels) {
    if (levels == 0) return true;
    if (value.kind == Kind::array)
        for (const json::Value& item : value.array())
            if (is_deeper(item, levels - 1)) return true;
    if (value.kind == Kind::object)
        for (const json::Member& member : value.object())
            if (is_deeper(member.value, levels - 1)) return true;
    return false;
}

}  // namespace

std::string_view name_of(Element element) { return kElementNames[static_cast<std::size_t>(element)]; }

std::size_t bytes_of(Element element) {
    constexpr std::array<std::uint8_t, 8> bytes{4, 2, 8, 4, 2, 1, 2, 1};
    return bytes[static_cast<std::size_t>(element)];
}

void Reader::fail(const std::string& what) {
    if (!status_.ok()) return;
    std::string message = what;
    if (!way_.empty()) {
        message += " - at `$";
        for (const Place& place : way_) {
            if (place.name.empty()) message.append("[").append(std::to_string(place.number)).append("]");
            else message.append(".").append(shown(place.name));
        }
        message += '`';
    }
    status_ = {Code::unsupported, shown(message, kMaxMessageBytes)};
}

void Reader::refuse_unknown(const Object& object) {
    for (const json::Member& member : object.value->object())
        if (std::find(object.taken.begin(), object.taken.end(), member.name) == object.taken.end())
            return fail("Object contains unknown field `" + std::string(member.name) + "`");
}

bool Reader::is(const json::Value& value, Kind kind) {
    if (value.kind == kind) return true;
    fail("Expected `" + std::string(name_of(kind)) + "`, got `" + std::string(name_of(value.kind)) + "`");
    return false;
}

bool Reader::has_count(std::size_t count, std::size_t least, std::size_t most, std::string_view of) {
    if (count >= least && count <= most) return true;
    const bool few = count < least;
    fail("Expected `" + std::string(of) + "` of length " + (few ? ">= " : "<= ") +
         std::to_string(few ? least : most));
    return false;
}

std::string_view Reader::tag_of(const json::Value& value, std::string_view field) {
    const json::Value* const tag = json::find(value, field);
    if (tag == nullptr) fail("Object missing required field `" + std::string(field) + "`");
    else if (tag->kind != Kind::text) at(field, [&] { fail("Expected `str`"); });
    return status_.ok() ? tag->characters() : std::string_view{};
}

std::int64_t Reader::whole(const json::Value& value, const Whole& rule) {
    if (!is(value, Kind::integer)) return 0;
    const std::optional<std::int64_t> number = json::to_integer(value);
    const bool negative = value.characters()[0] == '-';
    if (number ? *number < rule.low : negative) fail("Expected `int` >= " + std::to_string(rule.low));
    else if (number ? *number > rule.high : !negative) fail("Expected `int` <= " + std::to_string(rule.high));
    return number.value_or(0);
}

void Reader::check_text(std::string_view text, Pattern pattern) {
    if (!matches(pattern, text))
        fail("Expected `str` matching regex '" + std::string(expression_of(pattern)) + "'");
}

void Reader::read(const json::Value& value, std::string_view& out, const Text& rule) {
    if (!is(value, Kind::text)) return;
    out = value.characters();
    check_text(out, rule.pattern);
}

void Reader::read(const json::Value& value, std::string_view& out, const OneText& rule) {
    if (!is(value, Kind::text)) return;
    out = value.characters();
    if (out != rule.text) fail("Invalid enum value '" + shown(out) + "'");
}

void Reader::read(const json::Value& value, bool& out, Flag) {
    if (is(value, Kind::boolean)) out = value.truth;
}

void Reader::read(const json::Value& value, double& out, const Real& rule) {
    if (value.kind != Kind::integer && !is(value, Kind::real)) return;
    const std::optional<double> number = json::to_real(value);
    if (!number) return fail("Number out of range");
    out = *number;
    if (rule.above ? out <= rule.low : out < rule.low)
        fail(std::string("Expected `float` >") + (rule.above ? " " : "= ") + real_text(rule.low));
    if (out > rule.high) fail("Expected `float` <= " + real_text(rule.high));
}

void Reader::read(const json::Value& value, Element& out, const OneType& rule) {
    if (!is(value, Kind::text)) return;
    for (std::size_t i = 0; i < kElementNames.size(); ++i)
        if (value.characters() == kElementNames[i] && (rule.allowed >> i & 1) != 0) {
            out = static_cast<Element>(i);
            return;
        }
    fail("Invalid enum value '" + shown(value.characters()) + "'");
}

void Reader::read(const json::Value& value, Pair& out, const TwoNumbers& rule) {
    if (!is(value, Kind::array)) return;
    if (value.count != 2) return fail("Expected `array` of length 2");
    for (std::size_t i = 0; i < 2; ++i) at({}, [&] { read(value.array()[i], out[i], rule.each); }, i);
}

void Reader::read(const json::Value& value, Dimension& out, Anything) {
    if (value.kind == Kind::integer) return read(value, out.extent, kExtent);
    if (value.kind != Kind::text)
        return fail("Expected `int | str`, got `" + std::string(name_of(value.kind)) + "`");
    out.spelled = value.characters();
    check_text(out.spelled, Pattern::dimension);
    if (!status_.ok()) return;
    const std::size_t digits = std::min(out.spelled.find_first_not_of("0123456789"), out.spelled.size());
    if (digits > 0) out.factor = 0;
    for (const char digit : out.spelled.substr(0, digits)) out.factor = out.factor * 10 + (digit - '0');
    out.symbol = out.spelled.substr(digits);
}

void Reader::read(const json::Value& value, Show& out, Anything) {
    if (value.kind == Kind::text) return read(value, out.tensor, kName);
    out.listed = value.kind == Kind::array;
    if (out.listed) {
        if (!has_count(value.count, 1, kAny, "array")) return;
    } else if (value.kind != Kind::object) {
        return fail("Expected `str | array | object`, got `" + std::string(name_of(value.kind)) + "`");
    }
    out.runs.resize(out.listed ? value.count : 1);
    for (std::size_t i = 0; i < out.runs.size() && status_.ok(); ++i) {
        Step step;
        const json::Value& run = out.listed ? value.array()[i] : value;
        const auto read_run = [&] {
            read(run, step, Tagged{"op"});
            if (!status_.ok()) return;
            if (auto* const found = std::get_if<Run>(&step)) out.runs[i] = std::move(*found);
            else fail("Invalid value 'entropy'");
        };
        if (out.listed) at({}, read_run, i);
        else read_run();
    }
}

void Reader::read(const json::Value& value, Setting& out, Anything) {
    out.listed = value.kind == Kind::array;
    if (out.listed) return read(value, out.values, List<Whole>{kInt32});
    out.values.resize(1);
    read(value, out.values[0], kInt32);
}

void Reader::read(const json::Value& value, const json::Value*& out, Anything) {
    if (!is(value, Kind::object)) return;
    if (is_deeper(value, kProvenanceDepth)) fail("it is nested deeper than 32 levels");
    out = value.count == 0 ? nullptr : &value;
}

}  // namespace nicrt::bundle
