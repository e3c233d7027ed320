// Writes a type of the manifest as JSON by its `fields`: in one form, or as the canonical text that hashes
// are over.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "bundle/fields.hpp"
#include "json/write.hpp"

namespace nicrt::bundle {

class Writer {
public:
    /// canonical: names sorted, reals as the 16 hexadecimal digits of their bits.
    explicit Writer(bool canonical) : canonical_(canonical) {}

    template <Described T>
    std::string text(const T& value, Fields) {
        return object(value, [](json::Object&) {});
    }

    template <class T, class Rule>
    void operator()(std::string_view name, const T& member, const Rule& rule) {
        object_->add(name, text(member, rule));
    }

    template <class T, class Rule>
    void operator()(std::string_view name, const T& member, const Rule& rule,
                    const std::type_identity_t<T>& fallback) {
        if (!(member == fallback)) object_->add(name, text(member, rule));
    }

    template <class T, class Rule>
    void operator()(std::string_view name, const std::optional<T>& member, const Rule& rule, std::nullopt_t) {
        if (member) object_->add(name, text(*member, rule));
    }

    template <class T, class Item>
    std::string text(const Named<T>& items, const Map<Item>& rule) {
        json::Object object(canonical_);
        for (const auto& [name, item] : items) object.add(name, text(item, rule.item));
        return object.close();
    }

    template <class T, class Item>
    std::string text(const std::vector<T>& items, const List<Item>& rule) {
        json::List list;
        for (const T& item : items) list.add(text(item, rule.item));
        return list.close();
    }

    template <class... T>
    std::string text(const std::variant<T...>& value, const Tagged& rule) {
        return std::visit([&](const auto& item) { return tagged(item, rule); }, value);
    }

    template <class T>
    std::string tagged(const T& item, const Tagged& rule) {
        return object(item, [&](json::Object& into) { into.add(rule.field, json::quoted(T::kTag)); });
    }

    static std::string text(std::int64_t value, const Whole&) { return std::to_string(value); }
    static std::string text(std::string_view value, const Text&) { return json::quoted(value); }
    static std::string text(std::string_view value, const OneText&) { return json::quoted(value); }
    static std::string text(bool value, Flag) { return value ? "true" : "false"; }
    static std::string text(Element value, const OneType&) { return json::quoted(name_of(value)); }
    static std::string text(const json::Value* value, Anything) { return json::text_of(*value); }
    static std::string text(const Pair& value, const TwoNumbers&);
    static std::string text(const Dimension& value, Anything);
    static std::string text(const Setting& value, Anything);
    std::string text(double value, const Real&) const;
    std::string text(const Show& value, Anything);

private:
    template <class T, class First>
    std::string object(const T& value, const First& first) {
        json::Object object(canonical_);
        first(object);
        json::Object* const outer = std::exchange(object_, &object);
        // `fields` serves readers too, which write its members; a writer's calls take them as they are.
        fields(*this, const_cast<T&>(value));
        object_ = outer;
        return object.close();
    }

    bool canonical_;
    json::Object* object_ = nullptr;
};

}  // namespace nicrt::bundle
