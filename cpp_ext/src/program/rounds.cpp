// Parameters of a program: whether their values are allowed, what they are by default, and the rounds that
// follow.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "bundle/check.hpp"
#include "bundle/names.hpp"
#include "nicrt/plan.hpp"
#include "parallel.hpp"

namespace nicrt::program {
namespace {

using bundle::Parameter;
using bundle::Program;
using std::to_string;

std::string parameter_text(const Parameter& parameter) {
    return "parameter " + bundle::in_quotes(parameter.name);
}

Status check_sizes(const Parameter& parameter, const std::vector<std::int32_t>& sides,
                   const nicrt::Limits& limits) {
    const std::size_t count = sides.size() / 2;
    if (sides.size() % 2 != 0 || count > limits.max_stages)
        return invalid_argument(parameter_text(parameter) + " is not a list of at most " +
                                to_string(limits.max_stages) + " sizes");
    if (parameter.length && static_cast<std::size_t>(*parameter.length) != count)
        return invalid_argument(parameter_text(parameter) + " is " + to_string(count) + " sizes, not " +
                                to_string(*parameter.length));
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t height = sides[2 * i], width = sides[2 * i + 1];
        if (height < 1 || height > kMaxSide || width < 1 || width > kMaxSide)
            return invalid_argument(parameter_text(parameter) + " has a size of " + to_string(width) + " x " +
                                    to_string(height) + "; sides are 1.." + to_string(kMaxSide));
        if (std::uint64_t(height) * std::uint64_t(width) > limits.max_pixels)
            return {Code::limit, parameter_text(parameter) + " has a size beyond the limit of " +
                                     to_string(limits.max_pixels) + " pixels"};
    }
    return {};
}

Status check_numbers(const Parameter& parameter, const std::vector<std::int32_t>& values) {
    if (values.size() != static_cast<std::size_t>(parameter.length.value_or(1)))
        return invalid_argument(parameter_text(parameter) + " has " + to_string(values.size()) +
                                " values, not " + to_string(parameter.length.value_or(1)));
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    if (*least < parameter.min || *most > parameter.max)
        return invalid_argument(parameter_text(parameter) + " is outside " + to_string(parameter.min) + ".." +
                                to_string(parameter.max));
    return {};
}

using Places = std::map<std::string_view, std::size_t>;

Places places_of(const Program& program) {
    Places places;
    for (std::size_t i = 0; i < program.parameters.size(); ++i) places.emplace(program.parameters[i].name, i);
    return places;
}

/// A list that gives a value per round is long enough for the stage's rounds.
Status check_per_round(const bundle::Run& run, std::size_t rounds, const Places& places,
                       const Values& values) {
    for (const auto& [port, source] : run.inputs) {
        if (!bundle::is_parameter(source)) continue;
        const bundle::ParameterSource parameter(source);
        const auto place = places.find(parameter.name);
        if (place == places.end())
            return {Code::unsupported, "the bundle has no parameter for " + std::string(source)};
        const std::size_t count = values[place->second].size();
        if (parameter.of_round && count < rounds)
            return invalid_argument("parameter " + bundle::in_quotes(parameter.name) + " has " +
                                    to_string(count) + " values for " + to_string(rounds) + " layers");
    }
    return {};
}

Status check_rounds(const Program& program, const Values& values) {
    const Places places = places_of(program);
    bool any = false;
    for (const bundle::Stage& stage : program.stages) {
        std::size_t rounds = 1;
        if (stage.each) {
            const auto sizes = places.find(*stage.each);
            if (sizes == places.end() || !program.parameters[sizes->second].is_sizes())
                return {Code::unsupported, "a stage of the bundle runs for each of what is no list of sizes"};
            rounds = values[sizes->second].size() / 2;
        }
        any |= rounds > 0;
        for (const bundle::Step& step : stage.steps)
            if (const auto* const run = std::get_if<bundle::Run>(&step))
                NICRT_RETURN_IF_ERROR(check_per_round(*run, rounds, places, values));
        for (const bundle::Run& run : stage.show.runs)
            NICRT_RETURN_IF_ERROR(check_per_round(run, rounds, places, values));
    }
    return any ? Status() : invalid_argument("with these parameters there is no layer at all");
}

Round round_of(const bundle::Stage& stage, Extent size, std::size_t number, std::size_t item) {
    const auto padded = [&](std::int32_t side) {
        const std::int64_t multiple = (std::int64_t{side} + stage.align - 1) / stage.align * stage.align;
        return static_cast<std::int32_t>(std::min<std::int64_t>(multiple, INT32_MAX));
    };
    return {
        &stage, size, {padded(size.height), padded(size.width)}, std::uint32_t(number), std::uint32_t(item)};
}

}  // namespace

Status check_values(const Program& program, const Values& values, const nicrt::Limits& limits) {
    return status_of([&]() -> Status {
        if (values.size() != program.parameters.size())
            return invalid_argument("there are values for " + to_string(values.size()) + " parameters, not " +
                                    to_string(program.parameters.size()));
        for (std::size_t i = 0; i < values.size(); ++i) {
            const Parameter& parameter = program.parameters[i];
            NICRT_RETURN_IF_ERROR(parameter.is_sizes() ? check_sizes(parameter, values[i], limits)
                                                       : check_numbers(parameter, values[i]));
        }
        return check_rounds(program, values);
    });
}

std::vector<std::int32_t> scaled_sizes(Extent picture, std::span<const double> scales) {
    const auto scaled = [](std::int32_t side, double scale) {  // ties to even, which is how this rounds
        return static_cast<std::int32_t>(std::clamp(std::nearbyint(side * scale), 1.0, double{INT32_MAX}));
    };
    std::vector<std::int32_t> sides;
    for (const double scale : scales) {
        sides.push_back(scaled(picture.height, scale));
        sides.push_back(scaled(picture.width, scale));
    }
    return sides;
}

Values default_values(const Program& program, Extent picture) {
    Values values;
    for (const Parameter& parameter : program.parameters) {
        if (parameter.scales) values.push_back(scaled_sizes(picture, *parameter.scales));
        else values.emplace_back(static_cast<std::size_t>(parameter.length.value_or(1)), parameter.initial);
    }
    return values;
}

std::vector<Round> rounds_of(const Program& program, const Values& values, Extent picture) {
    const Places places = places_of(program);
    std::vector<Round> rounds;
    for (const bundle::Stage& stage : program.stages) {
        if (!stage.each) {
            rounds.push_back(round_of(stage, picture, rounds.size(), 0));
            continue;
        }
        const std::vector<std::int32_t>& sides = values[places.at(*stage.each)];
        for (std::size_t item = 0; 2 * item + 1 < sides.size(); ++item)
            rounds.push_back(round_of(stage, {sides[2 * item], sides[2 * item + 1]}, rounds.size(), item));
    }
    return rounds;
}

}  // namespace nicrt::program
