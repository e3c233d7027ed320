// From what a user asks for (quality, variant, scales, parameters) to a variant and its values.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>

#include "bundle/check.hpp"
#include "nicrt/plan.hpp"
#include "parallel.hpp"

namespace nicrt::program {
namespace {

using bundle::Manifest;
using bundle::QualityPoint;
using Points = std::vector<const QualityPoint*>;
using Numbers = std::vector<std::int32_t>;

std::string text_of(double number) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%g", number);
    return text.data();
}

template <class Items>
std::string names_of(const Items& items) {
    std::string names;
    for (const auto& name : items) names.append(names.empty() ? "" : ", ").append(name);
    return names;
}

/// The variant that a person means: "96" also finds "w96".
Status variant_named(const Manifest& manifest, std::string_view text, std::string_view& out) {
    for (const std::string& name : {std::string(text), std::string("w").append(text)})
        for (const auto& [known, variant] : manifest.variants)
            if (known == name) {
                out = known;
                return {};
            }
    std::vector<std::string_view> names;
    for (const auto& [known, variant] : manifest.variants) names.push_back(known);
    return invalid_argument("bundle " + bundle::in_quotes(manifest.name) + " has no variant " +
                            bundle::in_quotes(text) + "; it has " + names_of(names));
}

/// Those between which a quality lies: all of them, or the variant's own where one is asked for; one that has
/// none takes the parameters that it shares with the best.
Points points_of(const Manifest& manifest, std::optional<std::string_view> wanted) {
    const auto of = [&](std::optional<std::string_view> variant) {
        Points points;
        for (const QualityPoint& point : manifest.quality)
            if (!variant || point.variant == *variant) points.push_back(&point);
        return points;
    };
    Points own = of(wanted);
    return own.empty() ? of(manifest.quality.back().variant) : own;
}

/// Rounded, ties to even, and held within what a number can be.
std::int32_t rounded(double value) {
    return static_cast<std::int32_t>(std::clamp(std::nearbyint(value), double{INT32_MIN}, double{INT32_MAX}));
}

struct AtQuality {
    std::string_view variant;
    std::vector<std::pair<std::string_view, Numbers>> parameters;
};

/// Variant and parameters at a quality, not held to their limits.
AtQuality at_quality(const Points& points, double quality) {
    std::size_t number = 1;  // of the point above; beyond the first and last the nearest two count
    while (number + 1 < points.size() && points[number]->quality <= quality) ++number;
    const QualityPoint *below = points[number - 1], *above = points[std::min(number, points.size() - 1)];
    const double span = above->quality - below->quality;
    const double weight = span > 0 ? (quality - below->quality) / span : 0;
    if (below->variant != above->variant) below = above = weight > 0.5 ? above : below;
    std::map<std::string_view, const bundle::Setting*> others;
    for (const auto& [name, setting] : above->parameters) others.emplace(name, &setting);
    AtQuality found{below->variant, {}};
    for (const auto& [name, setting] : below->parameters) {
        const auto other = others.find(name);
        const Numbers& high = other == others.end() ? setting.values : other->second->values;
        Numbers& numbers = found.parameters.emplace_back(name, Numbers()).second;
        for (std::size_t i = 0; i < std::min(setting.values.size(), high.size()); ++i)
            numbers.push_back(rounded(setting.values[i] * (1 - weight) + high[i] * weight));
    }
    return found;
}

class Chooser {
public:
    Chooser(const Manifest& manifest, const bundle::Program& program, Extent picture)
        : manifest_(manifest),
          program_(program),
          picture_(picture),
          values_(default_values(program, picture)) {
        for (std::size_t i = 0; i < program.parameters.size(); ++i)
            places_.emplace(program.parameters[i].name, i);
    }

    void set_quality(const AtQuality& found) {
        for (const auto& [name, numbers] : found.parameters) {
            const auto place = places_.find(name);
            if (place == places_.end()) continue;
            const bundle::Parameter& parameter = program_.parameters[place->second];
            Numbers& values = values_[place->second] = numbers;
            for (std::int32_t& value : values) value = std::clamp(value, parameter.min, parameter.max);
        }
    }

    /// Sizes for the program's lists: one for each but the last of them, which takes the rest.
    Status set_scales(const std::vector<double>& scales) {
        std::vector<std::size_t> lists;
        for (std::size_t i = 0; i < program_.parameters.size(); ++i)
            if (program_.parameters[i].is_sizes()) lists.push_back(i);
        if (lists.empty())
            return invalid_argument("bundle " + bundle::in_quotes(manifest_.name) +
                                    " has no layers to scale");
        const std::size_t least = std::max<std::size_t>(1, lists.size() - 1);  // the last list may be empty
        bool rise = scales.size() >= least && scales.front() > 0 && std::isfinite(scales.back());
        for (std::size_t i = 1; rise && i < scales.size(); ++i) rise = scales[i] > scales[i - 1];
        if (!rise)
            return invalid_argument("scales are " + std::to_string(least) +
                                    " or more rising numbers above 0");
        std::vector<double> relative;
        for (const double scale : scales) relative.push_back(scale / scales.back());
        const std::span<const double> all(relative);
        for (std::size_t i = 0; i + 1 < lists.size(); ++i)
            values_[lists[i]] = scaled_sizes(picture_, all.subspan(i, 1));
        values_[lists.back()] = scaled_sizes(picture_, all.subspan(std::min(all.size(), lists.size() - 1)));
        return {};
    }

    /// A list for so many places that is shorter goes on with its last value.
    Status set(std::string_view name, const Numbers& numbers) {
        const auto place = places_.find(name);
        if (place == places_.end()) {
            std::vector<std::string_view> names;
            for (const bundle::Parameter& parameter : program_.parameters) names.push_back(parameter.name);
            return invalid_argument("bundle " + bundle::in_quotes(manifest_.name) + " has no parameter " +
                                    bundle::in_quotes(name) + "; it has " + names_of(names));
        }
        const bundle::Parameter& parameter = program_.parameters[place->second];
        Numbers& values = values_[place->second] = numbers;
        const auto length = static_cast<std::size_t>(parameter.is_sizes() ? 0 : parameter.length.value_or(0));
        if (!values.empty() && values.size() < length) {
            const std::int32_t last = values.back();
            values.resize(length, last);
        }
        return {};
    }

    [[nodiscard]] Values values() && { return std::move(values_); }

private:
    const Manifest& manifest_;
    const bundle::Program& program_;
    Extent picture_;
    Values values_;
    std::map<std::string_view, std::size_t> places_;
};

}  // namespace

Status choose(const Manifest& manifest, const Wish& wish, Extent picture, std::string_view& variant,
              Values& out) {
    return status_of([&]() -> Status {
        if (!(wish.quality >= 0 && wish.quality <= 100))
            return invalid_argument("quality is 0..100, not " + text_of(wish.quality));
        std::optional<std::string_view> wanted;
        if (wish.variant) NICRT_RETURN_IF_ERROR(variant_named(manifest, *wish.variant, wanted.emplace()));
        const AtQuality found = at_quality(points_of(manifest, wanted), wish.quality);
        const std::string_view name = wanted.value_or(found.variant);
        const bundle::Variant* const chosen = manifest.variants.find(name);
        if (chosen == nullptr)
            return {Code::unsupported, "the bundle has no variant " + bundle::in_quotes(name)};
        Chooser chooser(manifest, chosen->program, picture);
        chooser.set_quality(found);
        if (wish.scales) NICRT_RETURN_IF_ERROR(chooser.set_scales(*wish.scales));
        for (const auto& [parameter, numbers] : wish.parameters)
            NICRT_RETURN_IF_ERROR(chooser.set(parameter, numbers));
        variant = name;
        out = std::move(chooser).values();
        return {};
    });
}

}  // namespace nicrt::program
