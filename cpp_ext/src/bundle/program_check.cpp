// The exactness check is a data-flow proof. A tensor is *exact* when it is an entropy output, or an integer
// output of an exact graph all of whose inputs are exact tensors, parameters or sizes. A table index must be
// exact; so the parse of a file cannot depend on floating-point arithmetic, on any device, whatever the float
// graphs do.
//
// A second one is of ids. A decoded tensor is *loose* when a graph that the symbol id does not cover has a
// part in it. No encoder graph may see a loose tensor: another bundle of the same symbol id would have other
// values there, and a file's symbols would not be made for it.
#include <algorithm>
#include <map>
#include <set>

#include "bundle/check.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::string_view kPicture = "@x", kSize = "@size", kRows = "@rows", kColumns = "@cols",
                           kByChannel = "channel";
constexpr std::int32_t kPictureChannels = 3;
constexpr int kMaxUnrolled = 16;  // rounds of a loop after which its tensors must be what they were
constexpr std::size_t kMaxIndexTables =
    64;  // so that 64 and more mean "not coded" in every group used by index

/// What is known of a tensor before anything runs. extents: its dimensions, 0 for one that follows from the
/// picture's size or the batch.
struct Kind {
    Element dtype = Element::float32;
    std::vector<std::int32_t> extents;

    static Kind of(const Port& port) {
        Kind kind{port.dtype, {}};
        for (const Dimension& dimension : port.dims) kind.extents.push_back(dimension.extent);
        return kind;
    }

    static Kind places(Element dtype, std::int32_t channels) { return {dtype, {0, channels, 0, 0}}; }

    [[nodiscard]] bool fits(const Kind& other) const {
        const auto same = [](std::int32_t a, std::int32_t b) { return a == b || a == 0 || b == 0; };
        return dtype == other.dtype &&
               std::equal(extents.begin(), extents.end(), other.extents.begin(), other.extents.end(), same);
    }

    [[nodiscard]] std::string text() const {
        std::string text = std::string(name_of(dtype)) + " [";
        for (const std::int32_t extent : extents) {
            if (text.back() != '[') text += ", ";
            text += extent == 0 ? "*" : std::to_string(extent);
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

using Scope = std::map<std::string_view, Tensor>;

/// What holds in both.
Scope meet(const Scope& a, const Scope& b) {
    Scope both;
    for (const auto& [name, tensor] : a) {
        const auto other = b.find(name);
        if (other == b.end() || !(other->second.kind == tensor.kind)) continue;
        both[name] = {tensor.kind, tensor.decoded && other->second.decoded,
                      tensor.exact && other->second.exact, tensor.loose || other->second.loose};
    }
    return both;
}

bool same_ports(const Named<Port>& a, const Named<Port>& b) {
    std::map<std::string_view, const Port*> by_name;
    for (const auto& [name, port] : a) by_name[name] = &port;
    return a.size() == b.size() && std::all_of(b.begin(), b.end(), [&](const auto& named) {
               const auto same = by_name.find(named.first);
               return same != by_name.end() && *same->second == named.second;
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

class Check {
public:
    Check(const Program& program, const Manifest& manifest, const TableGroups& groups)
        : program_(program), encodes_(program.encodes()), groups_(groups) {
        for (const auto& [name, graph] : manifest.graphs) graphs_[name] = &graph;
    }

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

    Status stage(const Stage& stage) {
        if (!stage.each) return round(stage);
        const Parameter* const sizes = parameter(*stage.each);
        if (sizes == nullptr || !sizes->is_sizes())
            return invalid_bundle("a stage runs for each " + in_quotes(*stage.each) +
                                  ", which is not a list of sizes");
        std::optional<Scope> after;
        if (!sizes->length) after = scope_;       // there may be no round at all
        for (int i = 0; i < kMaxUnrolled; ++i) {  // a round finds what the one before it left
            const Scope before = scope_;
            NICRT_RETURN_IF_ERROR(round(stage));
            after = after ? meet(*after, scope_) : scope_;
            if (scope_ == before) {
                scope_ = std::move(*after);
                return {};
            }
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
        Scope before = scope_;
        for (const Run& run : stage.show.runs) {
            if (run.enc)
                return invalid_bundle("graph " + in_quotes(run.graph) +
                                      " is to show a stage, and to run when encoding alone");
            NICRT_RETURN_IF_ERROR(graph_step(run, stage, false));
        }
        NICRT_RETURN_IF_ERROR(shown(stage.show));
        scope_ = std::move(before);
        return {};
    }

    [[nodiscard]] Status shown(const Show& show) const {
        if (!show.runs.empty() && show.runs.back().outputs.size() != 1)
            return invalid_bundle("the last `show` graph must have one output");
        const Tensor* const picture = tensor(show.shown());
        if (picture == nullptr || !picture->decoded)
            return invalid_bundle("a stage shows " + in_quotes(show.shown()) + ", which is not there");
        const Kind& kind = picture->kind;
        if (kind.dtype == Element::uint8 && kind.extents.size() == 4 && kind.extents[3] == kPictureChannels)
            return {};
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
        Kind symbols = Kind::places(Element::int32, step.channels);
        if (encodes_ && !written->kind.fits(symbols))
            return invalid_bundle("the symbols " + in_quotes(step.out) + " are " + written->kind.text() +
                                  ", not " + symbols.text());
        scope_[step.out] = {std::move(symbols), true, true, false};
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

    Status graph(std::string_view name, const Graph*& out) const {
        const auto found = graphs_.find(name);
        if (found == graphs_.end()) return invalid_bundle("there is no graph " + in_quotes(name));
        out = found->second;
        return {};
    }

    Status check_step(const Run& run, const Graph& of, bool encoding) const {
        for (const auto& [level, other] : run.effort) {
            const Graph* alternative = nullptr;
            NICRT_RETURN_IF_ERROR(graph(other, alternative));
            if (!encoding || !same_ports(alternative->inputs, of.inputs) ||
                !same_ports(alternative->outputs, of.outputs))
                return invalid_bundle("graph " + in_quotes(other) + " cannot stand in for " +
                                      in_quotes(run.graph));
        }
        if (of.encoder && !encoding)
            return invalid_bundle("encoder graph " + in_quotes(run.graph) + " would run when decoding");
        std::set<std::string_view> inputs, outputs, made;
        for (const auto& [name, port] : of.inputs) inputs.insert(name);
        for (const auto& [name, port] : of.outputs) outputs.insert(name);
        bool fits = run.inputs.size() == inputs.size(), sized = false;
        for (const auto& [port, source] : run.inputs) {
            fits &= inputs.contains(port);
            sized |= source == kSize;
        }
        for (const auto& [port, name] : run.outputs) {
            fits &= outputs.contains(port);
            made.insert(name);
        }
        if (!fits)
            return invalid_bundle("the ports of graph " + in_quotes(run.graph) +
                                  " are not those of its step");
        if (made.size() != run.outputs.size())
            return invalid_bundle("two outputs of graph " + in_quotes(run.graph) + " have one name");
        const std::size_t symbols = sized_symbols(of);
        if (symbols != 0 && (symbols != 2 || !sized))
            return invalid_bundle("extents of graph " + in_quotes(run.graph) + " follow from nothing");
        return {};
    }

    Status graph_step(const Run& run, const Stage& stage, bool encoding) {
        const Graph* of = nullptr;
        NICRT_RETURN_IF_ERROR(graph(run.graph, of));
        NICRT_RETURN_IF_ERROR(check_step(run, *of, encoding));
        std::map<std::string_view, const Port*> inputs, outputs;
        for (const auto& [name, port] : of->inputs) inputs[name] = &port;
        for (const auto& [name, port] : of->outputs) outputs[name] = &port;
        bool exact = of->exact, loose = false;
        for (const auto& [port, source_name] : run.inputs) {
            Tensor source;
            NICRT_RETURN_IF_ERROR(source_of(source_name, *inputs[port], run, stage, encoding, source));
            if (source.loose && encoding)
                return invalid_bundle(
                    "encoder graph " + in_quotes(run.graph) + " takes " + in_quotes(source_name) +
                    ", which the symbol id does not cover: what makes it must be exact or in_loop");
            exact &= source.exact;
            loose |= source.loose;
        }
        for (const auto& [port, name] : run.outputs) {
            const Port& output = *outputs[port];
            scope_[name] = {Kind::of(output), !encoding, exact && is_integer(output.dtype) && !encoding,
                            !encoding && (loose || !of->decides_symbols())};
        }
        return {};
    }

    /// One input of a graph.
    Status source_of(std::string_view name, const Port& port, const Run& run, const Stage& stage,
                     bool encoding, Tensor& out) const {
        if (name == kPicture && encoding) {
            out.kind = Kind::places(Element::float32, kPictureChannels);
        } else if (name == kSize || name == kRows || name == kColumns) {
            out.kind = {Element::int32, {name == kSize ? 2 : 0}};
            out.exact = true;
        } else if (name.starts_with('$')) {
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
        std::string_view name = source.substr(1);
        const bool of_round = name.ends_with("[i]");
        if (of_round) name.remove_suffix(3);
        const Parameter* const p = parameter(name);
        if (p == nullptr || (of_round && (!p->length || p->is_sizes() || !stage.each)))
            return invalid_bundle("graph " + in_quotes(run.graph) + " takes parameter " + in_quotes(source) +
                                  ", which is not there");
        if (port.range && ((*port.range)[0] > p->min || p->min > p->max || p->max > (*port.range)[1]))
            return invalid_bundle("parameter " + in_quotes(name) + " may be what graph " +
                                  in_quotes(run.graph) + " is not made for");
        out.kind = {Element::int32, {p->is_sizes() ? 0 : of_round ? 1 : p->length.value_or(1)}};
        out.exact = true;
        return {};
    }

    const Program& program_;
    bool encodes_;
    const TableGroups& groups_;
    std::map<std::string_view, const Graph*> graphs_;
    std::map<std::string_view, const Parameter*> parameters_;
    Scope scope_;
};

}  // namespace

Status check_program(const Program& program, const Manifest& manifest, const TableGroups& groups) {
    return Check(program, manifest, groups).run();
}

}  // namespace nicrt::bundle
