// Reads a type of the manifest from JSON by its `fields`. The first failure counts; what is read after it is
// not used.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "bundle/fields.hpp"
#include "json/json.hpp"
#include "shown.hpp"

namespace nicrt::bundle {

class Reader {
public:
    /// unsupported: the message names the place.
    [[nodiscard]] const Status& status() const { return status_; }

    template <Described T>
    void read(const json::Value& value, T& out, Fields) {
        if (!is(value, json::Kind::object)) return;
        Object object{&value, {}, object_};
        object_ = &object;
        fields(*this, out);
        object_ = object.outer;
        refuse_unknown(object);
    }

    /// A field that must be there.
    template <class T, class Rule>
    void operator()(std::string_view name, T& member, const Rule& rule) {
        if (const json::Value* const value = take(name)) at(name, [&] { read(*value, member, rule); });
        else fail("Object missing required field `" + std::string(name) + "`");
    }

    /// A field that may be left out, which then has this value.
    template <class T, class Rule>
    void operator()(std::string_view name, T& member, const Rule& rule,
                    const std::type_identity_t<T>& fallback) {
        member = fallback;
        if (const json::Value* const value = take(name)) at(name, [&] { read(*value, member, rule); });
    }

    template <class T, class Rule>
    void operator()(std::string_view name, std::optional<T>& member, const Rule& rule, std::nullopt_t) {
        if (const json::Value* const value = take(name)) at(name, [&] { read(*value, member, rule); });
    }

private:
    /// An object whose fields are being read. taken: names that its type has.
    struct Object {
        const json::Value* value;
        std::vector<std::string_view> taken;
        Object* outer;
    };

    /// A part of the way from the manifest to what is being read: a field, or the place in a list.
    struct Place {
        std::string_view name;
        std::size_t number;
    };

    const json::Value* take(std::string_view name) {
        object_->taken.push_back(name);
        return status_.ok() ? json::find(*object_->value, name) : nullptr;
    }

    template <class Work>
    void at(std::string_view name, Work&& work, std::size_t number = 0) {
        way_.push_back({name, number});
        work();
        way_.pop_back();
    }

    void fail(const std::string& what);
    void refuse_unknown(const Object& object);
    bool is(const json::Value& value, json::Kind kind);
    bool has_count(std::size_t count, std::size_t least, std::size_t most, std::string_view of);

    template <class T, class Rule>
    void read(const json::Value& value, std::optional<T>& out, const Rule& rule) {
        if (value.kind == json::Kind::null) out.reset();
        else read(value, out.emplace(), rule);
    }

    template <class T>
        requires std::is_integral_v<T>
    void read(const json::Value& value, T& out, const Whole& rule) {
        out = static_cast<T>(whole(value, rule));
    }

    template <class T, class Item>
    void read(const json::Value& value, std::vector<T>& out, const List<Item>& rule) {
        if (!is(value, json::Kind::array) || !has_count(value.count, rule.least, rule.most, "array")) return;
        out.resize(value.count);
        for (std::size_t i = 0; i < out.size() && status_.ok(); ++i)
            at({}, [&] { read(value.array()[i], out[i], rule.item); }, i);
    }

    template <class T, class Item>
    void read(const json::Value& value, Named<T>& out, const Map<Item>& rule) {
        if (!is(value, json::Kind::object) || !has_count(value.count, rule.least, rule.most, "object"))
            return;
        out.items.resize(value.count);
        for (std::size_t i = 0; i < out.items.size() && status_.ok(); ++i) {
            const json::Member& member = value.object()[i];
            out.items[i].first = member.name;
            at(member.name, [&] {
                check_text(member.name, rule.key);
                read(member.value, out.items[i].second, rule.item);
            });
        }
    }

    /// The alternative whose tag the field has.
    template <class... T>
    void read(const json::Value& value, std::variant<T...>& out, const Tagged& rule) {
        if (!is(value, json::Kind::object)) return;
        const std::string_view tag = tag_of(value, rule.field);
        if (!status_.ok()) return;
        const bool known =
            ((tag == T::kTag && (read_tagged(value, out.template emplace<T>(), rule.field), true)) || ...);
        if (!known) at(rule.field, [&] { fail("Invalid value '" + shown(tag) + "'"); });
    }

    template <class T>
    void read_tagged(const json::Value& value, T& out, std::string_view field) {
        Object object{&value, {field}, object_};
        object_ = &object;
        fields(*this, out);
        object_ = object.outer;
        refuse_unknown(object);
    }

    std::string_view tag_of(const json::Value& value, std::string_view field);
    std::int64_t whole(const json::Value& value, const Whole& rule);
    void check_text(std::string_view text, Pattern pattern);
    void read(const json::Value& value, std::string_view& out, const Text& rule);
    void read(const json::Value& value, std::string_view& out, const OneText& rule);
    void read(const json::Value& value, bool& out, Flag);
    void read(const json::Value& value, double& out, const Real& rule);
    void read(const json::Value& value, Element& out, const OneType& rule);
    void read(const json::Value& value, Pair& out, const TwoNumbers& rule);
    void read(const json::Value& value, Dimension& out, Anything);
    void read(const json::Value& value, Show& out, Anything);
    void read(const json::Value& value, Setting& out, Anything);
    void read(const json::Value& value, const json::Value*& out, Anything);

    Status status_;
    Object* object_ = nullptr;
    std::vector<Place> way_;
};

}  // namespace nicrt::bundle
