// What a field of the manifest may hold. `fields` of each type (fields.hpp) names its fields with their rules
// once; reading and writing both go through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace nicrt::bundle {

enum class Pattern : std::uint8_t { any, name, hash, path, symbol_id, picture_id, level, dimension };

/// As messages say it, a regular expression.
[[nodiscard]] std::string_view expression_of(Pattern pattern);
[[nodiscard]] bool matches(Pattern pattern, std::string_view text);

constexpr std::size_t kAny = std::numeric_limits<std::size_t>::max();

struct Text {
    Pattern pattern = Pattern::any;
};
struct Flag {};
struct Whole {
    std::int64_t low, high;
};
/// low .. high; with `above`, low itself is too little.
struct Real {
    double low, high;
    bool above = false;
};
/// One of these names, whose places are the enumerators' in `Element`'s order.
struct OneType {
    unsigned allowed;  ///< bit e: `Element` e
};
struct OneText {
    std::string_view text;
};
/// An object with the fields that `fields` names.
struct Fields {};
/// One of several objects, which this field tells apart.
struct Tagged {
    std::string_view field;
};
struct Anything {};

/// A type that may be left out has no fields of its own.
template <class T>
concept Described = !requires(T value) { value.has_value(); };

struct TwoNumbers {
    Whole each;
};
template <class Item>
struct List {
    Item item;
    std::size_t least = 0, most = kAny;
};
template <class Item>
struct Map {
    Item item;
    std::size_t least = 0, most = kAny;
    Pattern key = Pattern::name;
};

}  // namespace nicrt::bundle
