// JSON without white space, put together from texts.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json/json.hpp"

namespace nicrt::json {

/// The shortest of 15, 16 or 17 digits that give the same double again. For finite numbers.
[[nodiscard]] std::string text_of(double value);

[[nodiscard]] std::string text_of(const Value& value);

/// Appends the text in quotation marks.
void quote(std::string_view text, std::string& out);

[[nodiscard]] inline std::string quoted(std::string_view text) {
    std::string out;
    quote(text, out);
    return out;
}

class List {
public:
    void add(std::string_view item);
    [[nodiscard]] std::string close();

private:
    std::string text_;
};

/// sorted: by the bytes of the names, which is the order of their code points.
class Object {
public:
    explicit Object(bool sorted = false) : sorted_(sorted) {}
    void add(std::string_view name, std::string value) { members_.emplace_back(name, std::move(value)); }
    [[nodiscard]] std::string close();

private:
    bool sorted_;
    std::vector<std::pair<std::string_view, std::string>> members_;
};

}  // namespace nicrt::json
