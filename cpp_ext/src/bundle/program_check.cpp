// The exactness check is a data-flow proof. A tensor is *exact* when it is an entropy output, or an integer
// output of an exact graph all of whose inputs are exact tensors, parameters or sizes. A table index must be
// exact; so the parse of a file cannot depend on floating-point arithmetic, on any device, whatever the float
// graphs do.
//
// A second one is of ids. A decoded tensor is *loose* when a graph that the symbol id does not cover has a
// part in it. No encoder graph may see a loose tensor: another bundle of the same symbol id would have other
// values there, and a file's symbols would not be made for it.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "bundle/check.hpp"
#include "bundle/names.hpp"

namespace nicrt::bundle {
namespace {

constexpr int kMaxUnrolled = 16;  // rounds of a loop after which its tensors must be what they were
constexpr std::size_t kMaxIndexTables =
    64;  // so that 64 and more mean "not coded" in every group used by index

/// What is known of a tensor before anything runs. extents: its dimensions, 0 for one that follows from the
/// picture's size or the batch.
struct Kind {
    Element dtype = Element::float32;
    std::uint8_t rank = 0;
    std::array<std::int32_t, kMaxPortDimensions> extents{};

    static Kind of(const Port& port) {
        Kind kind{port.dtype};
        for (const Dimension& dimension : port.dims) kind.extents[kind.rank++] = dimension.extent;
        return kind;
    }

    static Kind list(std::int32_t count) { return {Element::int32, 1, {count}}; }
    static Kind places(Element dtype, std::int32_t channels) { return {dtype, 4, {0, channels, 0, 0}}; }

    [[nodiscard]] bool fits(const Kind& other) const {
        const auto same = [](std::int32_t a, std::int32_t b) { return a == b || a == 0 || b == 0; };
        return dtype == other.dtype && rank == other.rank &&
               std::equal(extents.begin(), extents.end(), other.extents.begin(), same);
    }

    [[nodiscard]] std::string text() const {
        std::string text = std::string(name_of(dtype)) + " [";
        for (std::size_t i = 0; i < rank; ++i) {
            if (i > 0) text += ", ";
            text += extents[i] == 0 ? "*" : std::to_string(extents[i]);
        }
        return text + "]";
    }

    bool operator==(const Kind&) const = default;
};

/// A tensor known at one point of the program.
struct Tensor {
    Kind kind;
    bool decoded = false;  ///< there when decoding, not only when encoding
    bool exact = false, loose = false;
    bool operator==(const Tensor&) const = default;
};

/// What holds of a tensor in both of two cases; nothing where it is not there in one.
std::optional<Tensor> meet(const std::optional<Tensor>& a, const std::optional<Tensor>& b) {
    if (!a || !b || !(a->kind == b->kind)) return std::nullopt;
    return Tensor{a->kind, a->decoded && b->decoded, a->exact && b->exact, a->loose || b->loose};
}

using PortsByName = std::map<std::string_view, const Port*>;

PortsByName by_name(const Named<Port>& ports) {
    PortsByName result;
    for (const auto& [name, port] : ports) result[name] = &port;
    return result;
}

bool same_ports(const PortsByName& a, const PortsByName& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& one, const auto& other) {
        return one.first == other.first && *one.second == *other.second;
    });
}

/// The dimension symbols that only outputs have: height and width of the round's picture.
std::size_t sized_symbols(const Graph& graph) {
    std::set<std::string_view> known, made;
    for (const auto& [name, port] : graph.inputs)
        for (const Dimension& dimension : port.dims) known.insert(dimension.symbol);
    for (const auto& [name, port] : graph.outputs)
        for (const Dimension& dimension : port.dims)
            if (dimension.extent == 0 && !known.contains(dimension.symbol)) made.insert(dimension.symbol);
    return made.size();
}

/// A graph as steps see it, made once: thousands of steps may run one graph of thousands of ports.
struct Callable {
    const Graph* graph;
    PortsByName inputs, outputs;
    std::size_t sized_symbols;
};

class Graphs {
public:
    explicit Graphs(const Manifest& manifest) {
        for (const auto& [name, graph] : manifest.graphs)
            by_name_[name] = {&graph, by_name(graph.inputs), by_name(graph.outputs), sized_symbols(graph)};
    }

    Status find(std::string_view name, const Callable*& out) const {
        const auto found = by_name_.find(name);
        if (found == by_name_.end()) return invalid_bundle("there is no graph " + in_quotes(name));
        out = &found->second;
        return {};
    }

    /// Whether one may run in the other's place.
    bool are_alike(const Callable& a, const Callable& b) {
        const auto [place, is_new] = alike_.try_emplace({&a, &b});
        if (is_new) place->second = same_ports(a.inputs, b.inputs) && same_ports(a.outputs, b.outputs);
        return place->second;
    }

private:
    std::map<std::string_view, Callable> by_name_;
    std::map<std::pair<const Callable*, const Callable*>, bool> alike_;
};

class Check {
public:
    Check(const Program& program, Graphs& graphs, const TableGroups& groups)
        : program_(program), encodes_(program.encodes()), graphs_(graphs), groups_(groups) {}

    Status run() {
        for (const Parameter& parameter : program_.parameters)
            NICRT_RETURN_IF_ERROR(add_parameter(parameter));
        for (const Stage& one : program_.stages) NICRT_RETURN_IF_ERROR(stage(one));
        return {};
    }

private:
    Status add_parameter(const Parameter& p) {
        if (!parameters_.emplace(p.name, &p).second) return invalid_bundle("two parameters have one name");
        if (p.initial < p.min || p.initial > p.max)
            return invalid_bundle("the default of parameter " + in_quotes(p.name) + " is outside its range");
        if (p.scales && p.length && static_cast<std::size_t>(*p.length) != p.scales->size())
            return invalid_bundle("parameter " + in_quotes(p.name) + " has default sizes for " +
                                  std::to_string(p.scales->size()) + " places");
        return {};
    }

    [[nodiscard]] const Parameter* parameter(std::string_view name) const {
        const auto found = parameters_.find(name);
        return found == parameters_.end() ? nullptr : found->second;
    }

    [[nodiscard]] const Tensor* tensor(std::string_view name) const {
        const auto found = scope_.find(name);
        return found == scope_.end() ? nullptr : &found->second;
    }

    /// Sets a tensor, and notes what was there before.
    void put(std::string_view name, const Tensor& tensor) {
        const auto [place, is_new] = scope_.try_emplace(name);
        changes_.emplace_back(name, is_new ? std::nullopt : std::optional(place->second));
        place->second = tensor;
    }

    void put_back(std::string_view name, const std::optional<Tensor>& tensor) {
        if (tensor) scope_[name] = *tensor;
        else scope_.erase(name);
    }

    Status stage(const Stage& stage) {
        changes_.clear();
        if (!stage.each) return round(stage);
        const Parameter* const sizes = parameter(*stage.each);
        if (sizes == nullptr || !sizes->is_sizes())
            return invalid_bundle("a stage runs for each " + in_quotes(*stage.each) +
                                  ", which is not a list of sizes");
        // Of every name that a round writes, which are the same ones in all rounds: what holds of it behind
        // the stage, however many rounds there are.
        std::map<std::string_view, std::optional<Tensor>> after;
        for (int i = 0; i < kMaxUnrolled; ++i) {  // a round finds what the one before it left
            changes_.clear();
            NICRT_RETURN_IF_ERROR(round(stage));
            std::map<std::string_view, std::optional<Tensor>> before;
            for (const auto& [name, was] : changes_) before.try_emplace(name, was);
            bool settled = true;
            for (const auto& [name, was] : before) {
                const std::optional<Tensor> now = scope_.at(name);
                settled &= was == now;
                if (i > 0) after[name] = meet(after[name], now);
                else after[name] = sizes->length ? now : meet(was, now);  // there may be no round at all
            }
            if (!settled) continue;
            for (const auto& [name, tensor] : after) put_back(name, tensor);
            return {};
        }
        return invalid_bundle("what the rounds of stage " + in_quotes(*stage.each) +
                              " leave to each other does not settle");
    }

    Status round(const Stage& stage) {
        for (const Step& step : stage.steps) {
            if (const auto* const coded = std::get_if<Entropy>(&step))
                NICRT_RETURN_IF_ERROR(entropy(*coded, stage));
            else NICRT_RETURN_IF_ERROR(graph_step(std::get<Run>(step), stage, std::get<Run>(step).enc));
        }
        const std::size_t written = changes_.size();
        for (const Run& run : stage.show.runs) {
            if (run.enc)
                return invalid_bundle("graph " + in_quotes(run.graph) +
                                      " is to show a stage, and to run when encoding alone");
            NICRT_RETURN_IF_ERROR(graph_step(run, stage, false));
        }
        NICRT_RETURN_IF_ERROR(shown(stage.show));
        for (; changes_.size() > written; changes_.pop_back())
            put_back(changes_.back().first, changes_.back().second);
        return {};
    }

    [[nodiscard]] Status shown(const Show& show) const {
        if (!show.runs.empty() && show.runs.back().outputs.size() != 1)
            return invalid_bundle("the last `show` graph must have one output");
        const Tensor* const picture = tensor(show.shown());
        if (picture == nullptr || !picture->decoded)
            return invalid_bundle("a stage shows " + in_quotes(show.shown()) + ", which is not there");
        const Kind& kind = picture->kind;
        if (kind.dtype == Element::uint8 && kind.rank == 4 && kind.extents[3] == kPictureChannels) return {};
        return invalid_bundle("a stage shows " + kind.text() + "; this nicrt shows uint8 [*, *, *, 3]");
    }

    Status entropy(const Entropy& step, const Stage& stage) {
        const Tensor* const written = tensor(step.out);
        if (encodes_ && written == nullptr)
            return invalid_bundle("no encoder step writes " + in_quotes(step.out) + " before it is coded");
        if (stage.tile % step.stride != 0 || stage.align % step.stride != 0)
            return invalid_bundle("stride " + std::to_string(step.stride) + " of " + in_quotes(step.out) +
                                  " does not divide the stage's align and tile");
        const auto group = groups_.find(step.tables);
        if (group == groups_.end()) return invalid_bundle("there are no tables " + in_quotes(step.tables));
        if (step.by == kByChannel) NICRT_RETURN_IF_ERROR(by_channel(step, group->second));
        else NICRT_RETURN_IF_ERROR(by_index(step, group->second));
        const Kind symbols = Kind::places(Element::int32, step.channels);
        if (encodes_ && !written->kind.fits(symbols))
            return invalid_bundle("the symbols " + in_quotes(step.out) + " are " + written->kind.text() +
                                  ", not " + symbols.text());
        put(step.out, {symbols, true, true, false});
        return {};
    }

    [[nodiscard]] Status by_index(const Entropy& step, const TableGroup& group) const {
        const Tensor* const by = tensor(step.by);
        if (by == nullptr || !by->exact || !by->decoded)
            return invalid_bundle("the table index " + in_quotes(step.by) + " of " + in_quotes(step.out) +
                                  " hangs on something that is not exact");
        const Kind index = Kind::places(Element::uint8, step.channels);
        if (!by->kind.fits(index))
            return invalid_bundle("the table index " + in_quotes(step.by) + " is " + by->kind.text() +
                                  ", not " + index.text());
        // of a group with a channel map, tables that no channel names are in no hash
        if (group.count() > kMaxIndexTables || group.sets > 0 || step.set)
            return invalid_bundle("tables " + in_quotes(step.tables) +
                                  " cannot be chosen by an index tensor");
        return {};
    }

    [[nodiscard]] Status by_channel(const Entropy& step, const TableGroup& group) const {
        if (group.sets == 0 || group.channels != step.channels)
            return invalid_bundle("tables " + in_quotes(step.tables) + " have no channel map for " +
                                  std::to_string(step.channels) + " channels");
        std::int32_t last = 0;
        if (step.set) {
            const Parameter* const set = parameter(*step.set);
            if (set == nullptr || (set->length && *set->length != step.channels) || set->is_sizes() ||
                set->min < 0)
                return invalid_bundle("the table set " + in_quotes(*step.set) + " of " + in_quotes(step.out) +
                                      " is not a number from 0 up, or one per channel");
            last = set->max;
        }
        if (last < group.sets) return {};
        return invalid_bundle("tables " + in_quotes(step.tables) + " have " + std::to_string(group.sets) +
                              " sets, and a file may ask for " + std::to_string(last));
    }

    Status check_step(const Run& run, const Callable& of, bool encoding) {
        for (const auto& [level, other] : run.effort) {
            const Callable* alternative = nullptr;
            NICRT_RETURN_IF_ERROR(graphs_.find(other, alternative));
            if (!encoding || !graphs_.are_alike(*alternative, of))
                return invalid_bundle("graph " + in_quotes(other) + " cannot stand in for " +
                                      in_quotes(run.graph));
        }
        if (of.graph->encoder && !encoding)
            return invalid_bundle("encoder graph " + in_quotes(run.graph) + " would run when decoding");
        std::set<std::string_view> made;
        bool fits = run.inputs.size() == of.inputs.size(), sized = false;
        for (const auto& [port, source] : run.inputs) {
            fits &= of.inputs.contains(port);
            sized |= source == kSize;
        }
        for (const auto& [port, name] : run.outputs) {
            fits &= of.outputs.contains(port);
            made.insert(name);
        }
        if (!fits)
            return invalid_bundle("the ports of graph " + in_quotes(run.graph) +
                                  " are not those of its step");
        if (made.size() != run.outputs.size())
            return invalid_bundle("two outputs of graph " + in_quotes(run.graph) + " have one name");
        if (of.sized_symbols != 0 && (of.sized_symbols != 2 || !sized))
            return invalid_bundle("extents of graph " + in_quotes(run.graph) + " follow from nothing");
        return {};
    }

    Status graph_step(const Run& run, const Stage& stage, bool encoding) {
        const Callable* of = nullptr;
        NICRT_RETURN_IF_ERROR(graphs_.find(run.graph, of));
        NICRT_RETURN_IF_ERROR(check_step(run, *of, encoding));
        bool exact = of->graph->exact, loose = false;
        for (const auto& [port, source_name] : run.inputs) {
            Tensor source;
            NICRT_RETURN_IF_ERROR(source_of(source_name, *of->inputs.at(port), run, stage, encoding, source));
            if (source.loose && encoding)
                return invalid_bundle(
                    "encoder graph " + in_quotes(run.graph) + " takes " + in_quotes(source_name) +
                    ", which the symbol id does not cover: what makes it must be exact or in_loop");
            exact &= source.exact;
            loose |= source.loose;
        }
        for (const auto& [port, name] : run.outputs) {
            const Port& output = *of->outputs.at(port);
            put(name, {Kind::of(output), !encoding, exact && is_integer(output.dtype) && !encoding,
                       !encoding && (loose || !of->graph->decides_symbols())});
        }
        return {};
    }

    /// One input of a graph.
    Status source_of(std::string_view name, const Port& port, const Run& run, const Stage& stage,
                     bool encoding, Tensor& out) const {
        if (name == kPicture && encoding) {
            out.kind = Kind::places(Element::float32, kPictureChannels);
        } else if (name == kSize || name == kRows || name == kColumns) {
            out.kind = Kind::list(name == kSize ? 2 : 0);
            out.exact = true;
        } else if (is_parameter(name)) {
            NICRT_RETURN_IF_ERROR(parameter_source(name, port, run, stage, out));
        } else {
            const Tensor* const known = tensor(name);
            if (known == nullptr || (!known->decoded && !encoding))
                return invalid_bundle("graph " + in_quotes(run.graph) + " takes " + in_quotes(name) +
                                      ", which is not there");
            out = *known;
        }
        const Kind taken = Kind::of(port);
        if (out.kind.fits(taken)) return {};
        return invalid_bundle("graph " + in_quotes(run.graph) + " takes " + in_quotes(name) + " as " +
                              taken.text() + ", but it is " + out.kind.text());
    }

    /// `$p`, a parameter, or `$p[i]`, of a list its element for the round.
    Status parameter_source(std::string_view source, const Port& port, const Run& run, const Stage& stage,
                            Tensor& out) const {
        const auto [name, of_round] = ParameterSource(source);
        const Parameter* const p = parameter(name);
        if (p == nullptr || (of_round && (!p->length || p->is_sizes() || !stage.each)))
            return invalid_bundle("graph " + in_quotes(run.graph) + " takes parameter " + in_quotes(source) +
                                  ", which is not there");
        if (port.range && ((*port.range)[0] > p->min || p->min > p->max || p->max > (*port.range)[1]))
            return invalid_bundle("parameter " + in_quotes(name) + " may be what graph " +
                                  in_quotes(run.graph) + " is not made for");
        out.kind = Kind::list(p->is_sizes() ? 0 : of_round ? 1 : p->length.value_or(1));
        out.exact = true;
        return {};
    }

    const Program& program_;
    bool encodes_;
    Graphs& graphs_;
    const TableGroups& groups_;
    std::map<std::string_view, const Parameter*> parameters_;
    std::map<std::string_view, Tensor> scope_;
    /// Of this stage's round, in their order: copies of the scope would cost more than a hostile program may.
    std::vector<std::pair<std::string_view, std::optional<Tensor>>> changes_;
};

}  // namespace

Status check_programs(const Manifest& manifest, const TableGroups& groups) {
    Graphs graphs(manifest);
    for (const auto& [name, variant] : manifest.variants)
        NICRT_RETURN_IF_ERROR(Check(variant.program, graphs, groups).run());
    return {};
}

}  // namespace nicrt::bundle
