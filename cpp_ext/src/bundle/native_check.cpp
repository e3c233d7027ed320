// Every value of a native form is followed from the input ports to the outputs with its type, channels and
// places; so what runs the operations need not look again.
#include <algorithm>
#include <map>
#include <set>

#include "bundle/check.hpp"

namespace nicrt::bundle {
namespace {

constexpr std::int64_t kMaxExtent = 1 << 24, kMaxFactor = 9'999'999;  // of a port's dimension

constexpr unsigned kFloats = 1U << unsigned(Element::float32) | 1U << unsigned(Element::float16);
constexpr unsigned one_of(Element element) { return 1U << static_cast<unsigned>(element); }

/// Places along one dimension: a multiple of a port's symbol.
struct Places {
    std::int64_t factor = 1;
    std::string_view symbol;
    bool operator==(const Places&) const = default;
};

/// [batch, channels, rows, columns] of a type. picture: channels last. exact: made of integers alone. bound:
/// largest magnitude of an integer, where it is known.
struct Value {
    Element dtype = Element::float32;
    bool batched = false;
    std::int64_t channels = 0;
    Places rows, columns;
    bool picture = false, exact = false;
    std::optional<std::int64_t> bound;

    [[nodiscard]] bool same_size(const Value& other) const {
        return channels == other.channels && rows == other.rows && columns == other.columns;
    }
};

bool is_batch(const Dimension& dimension) { return dimension.spelled == kBatch; }

class Check {
public:
    Check(std::string_view name, const Graph& graph) : name_(name), graph_(graph), form_(*graph.native) {
        for (const auto& [tensor, view] : form_.tensors) views_[tensor] = {&view, false};
    }

    Status run() {
        for (const auto& [name, port] : graph_.inputs) NICRT_RETURN_IF_ERROR(input(name, port));
        for (const Operation& operation : form_.operations)
            NICRT_RETURN_IF_ERROR(std::visit([&](const auto& op) { return one(op); }, operation));
        for (const auto& [name, port] : graph_.outputs) NICRT_RETURN_IF_ERROR(output(name, port));
        for (const auto& [name, used] : views_)
            if (!used.second) return refuse("nothing uses tensor " + in_quotes(name));
        return {};
    }

private:
    [[nodiscard]] Status refuse(const std::string& what) const {
        return invalid_bundle("the native form of graph " + in_quotes(name_) + ": " + what);
    }

    Status input(std::string_view name, const Port& port) {
        inputs_.insert(name);
        if (port.dtype == Element::int32 && port.dims.size() == 1 && port.dims[0].extent == 1) {
            parameters_[name] = &port;
            return {};
        }
        const auto& dims = port.dims;
        if (dims.size() != 4 || !(dims[0].extent == 1 || is_batch(dims[0])) || dims[1].extent == 0 ||
            dims[2].extent != 0 || dims[3].extent != 0)
            return refuse("input " + in_quotes(name) + " is neither a parameter nor a tensor of places");
        if (port.dtype != Element::float32 && port.dtype != Element::int32 && port.dtype != Element::uint8)
            return refuse("input " + in_quotes(name) + " is " + std::string(name_of(port.dtype)) +
                          ", not float32 or int32 or uint8");
        Value value;
        value.dtype = port.dtype;
        value.batched = is_batch(dims[0]);
        value.channels = dims[1].extent;
        value.rows = {dims[2].factor, dims[2].symbol};
        value.columns = {dims[3].factor, dims[3].symbol};
        value.exact = is_integer(port.dtype);
        if (port.range) value.bound = reach_of(*port.range);
        values_[name] = value;
        return {};
    }

    Status output(std::string_view name, const Port& port) {
        const auto found = values_.find(name);
        if (found == values_.end() || inputs_.contains(name))
            return refuse("no operation makes output " + in_quotes(name));
        const Value& value = found->second;
        const auto& dims = port.dims;
        const std::size_t rows = value.picture ? 1 : 2, channels = value.picture ? 3 : 1;
        const auto are = [](const Dimension& dimension, const Places& places) {
            return dimension.extent == 0 && dimension.factor == places.factor &&
                   dimension.symbol == places.symbol;
        };
        if (dims.size() != 4 || !are(dims[rows], value.rows) || !are(dims[rows + 1], value.columns) ||
            dims[channels].extent != value.channels)
            return refuse("output " + in_quotes(name) + " has other channels or places than its port");
        if (value.batched ? !is_batch(dims[0]) : dims[0].extent != 1)
            return refuse("output " + in_quotes(name) + " is of another number of pictures than its port");
        if (port.dtype != value.dtype)
            return refuse("output " + in_quotes(name) + " is " + std::string(name_of(value.dtype)) +
                          ", its port " + std::string(name_of(port.dtype)));
        if (graph_.exact && is_integer(port.dtype) && !value.exact)
            return refuse("output " + in_quotes(name) + " of an exact graph is made of floats");
        return {};
    }

    Status define(std::string_view name, const Value& value) {
        if (value.channels > kMaxExtent)
            return refuse(in_quotes(name) + " has more channels than any port may have");
        if (parameters_.contains(name) || !values_.emplace(name, value).second)
            return refuse(in_quotes(name) + " is written twice");
        return {};
    }

    /// A tensor of places.
    Status value(std::string_view name, Value& out) const {
        const auto found = values_.find(name);
        if (found == values_.end() || found->second.picture)
            return refuse(in_quotes(name) + " is no value that is made before it is used");
        out = found->second;
        return {};
    }

    Status real(std::string_view name, Value& out) const {
        NICRT_RETURN_IF_ERROR(value(name, out));
        if (out.dtype != Element::float32)
            return refuse(in_quotes(name) + " is " + std::string(name_of(out.dtype)) +
                          " where float32 belongs");
        out.exact = false;
        return {};
    }

    /// A stored tensor of one of these types.
    Status view(std::string_view name, unsigned types, std::size_t dimensions, const View*& out) {
        const auto found = views_.find(name);
        if (found == views_.end() || (types & one_of(found->second.first->dtype)) == 0 ||
            found->second.first->shape.size() != dimensions)
            return refuse("tensor " + in_quotes(name) + " is not there, or not of its type and " +
                          std::to_string(dimensions) + " dimensions");
        found->second.second = true;
        out = found->second.first;
        return {};
    }

    /// The range of a parameter.
    Status parameter(std::string_view name, Pair& out) const {
        const auto found = parameters_.find(name);
        if (found == parameters_.end() || !found->second->range)
            return refuse(in_quotes(name) + " is not a parameter with a range");
        out = *found->second->range;
        return {};
    }

    Status row_of(std::string_view name, const View& view) const {
        Pair range{};
        NICRT_RETURN_IF_ERROR(parameter(name, range));
        if (0 <= range[0] && range[0] <= range[1] && range[1] < view.shape[0]) return {};
        return refuse("parameter " + in_quotes(name) + " may ask for a row that is not there");
    }

    [[nodiscard]] Status of_channels(std::string_view tensor, std::int64_t is, std::int64_t should) const {
        if (is == 1 || is == should) return {};
        return refuse("tensor " + in_quotes(tensor) + " is not of " + std::to_string(should) + " channels");
    }

    Status factor(const Constant& factor, std::int64_t channels) {
        const View* tensor = nullptr;
        NICRT_RETURN_IF_ERROR(view(factor.tensor, kFloats, 1, tensor));
        return of_channels(factor.tensor, tensor->shape[0], channels);
    }
    Status factor(const Row& factor, std::int64_t channels) {
        const View* tensor = nullptr;
        NICRT_RETURN_IF_ERROR(view(factor.tensor, kFloats, 2, tensor));
        NICRT_RETURN_IF_ERROR(of_channels(factor.tensor, tensor->shape[1], channels));
        return row_of(factor.parameter, *tensor);
    }
    Status factor(const Exponential& factor, std::int64_t) {
        Pair range{};
        return parameter(factor.parameter, range);
    }
    Status factor(const InterpolatedExponential& factor, std::int64_t channels) {
        const View* tensor = nullptr;
        NICRT_RETURN_IF_ERROR(view(factor.tensor, kFloats, 2, tensor));
        NICRT_RETURN_IF_ERROR(of_channels(factor.tensor, tensor->shape[1], channels));
        Pair range{};
        return parameter(factor.parameter, range);
    }

    Status vector(const Factors& factors, std::int64_t channels) {
        for (const Factor& any : factors)
            NICRT_RETURN_IF_ERROR(std::visit([&](const auto& one) { return factor(one, channels); }, any));
        return {};
    }

    Status sum(const std::vector<Term>& terms, const Factors& offset, Value& out) {
        for (const Term& term : terms) {
            Value of_term;
            NICRT_RETURN_IF_ERROR(value(term.value, of_term));
            if (of_term.dtype != Element::float32 && of_term.dtype != Element::int32)
                return refuse("a sum of " + std::string(name_of(of_term.dtype)));
            if (&term == &terms.front()) {
                out = of_term;
            } else if (!of_term.same_size(out)) {
                return refuse("a sum of values of different sizes");
            }
            out.batched |= of_term.batched;
            NICRT_RETURN_IF_ERROR(vector(term.scale, out.channels));
        }
        out.dtype = Element::float32;
        out.exact = false;
        out.bound.reset();
        return vector(offset, out.channels);
    }

    /// A stride that multiplies the places, within what they may be.
    [[nodiscard]] Status stretch(const Pair& stride, Value& value) const {
        value.rows.factor *= stride[0];
        value.columns.factor *= stride[1];
        if (std::max(value.rows.factor, value.columns.factor) <= kMaxFactor) return {};
        return refuse("a value has more places than any port may have");
    }

    Status norm(const Normalisation& norm, std::int64_t channels) {
        const View* beta = nullptr;
        const View* gamma = nullptr;
        NICRT_RETURN_IF_ERROR(view(norm.beta, kFloats, 1, beta));
        NICRT_RETURN_IF_ERROR(view(norm.gamma, kFloats, 2, gamma));
        if (beta->shape[0] == channels && gamma->shape[0] == channels && gamma->shape[1] == channels)
            return {};
        return refuse("normalisation " + in_quotes(norm.beta) + " is not of " + std::to_string(channels) +
                      " channels");
    }

    Status layer(const Layer& layer, bool transposed, Value& value) {
        const View* weight = nullptr;
        NICRT_RETURN_IF_ERROR(view(layer.weight, kFloats, 4, weight));
        const std::int64_t inputs = weight->shape[transposed ? 0 : 1],
                           outputs = weight->shape[transposed ? 1 : 0];
        NICRT_RETURN_IF_ERROR(check_inputs(layer.weight, inputs, value));
        if (layer.bias) {
            const View* bias = nullptr;
            NICRT_RETURN_IF_ERROR(view(*layer.bias, kFloats, 1, bias));
            if (bias->shape[0] != outputs)
                return refuse("bias " + in_quotes(*layer.bias) + " is not of " + std::to_string(outputs) +
                              " channels");
        }
        if (layer.norm) NICRT_RETURN_IF_ERROR(norm(*layer.norm, transposed ? inputs : outputs));
        value.channels = outputs;
        if (transposed) return stretch(layer.stride, value);
        if (value.rows.factor % layer.stride[0] != 0 || value.columns.factor % layer.stride[1] != 0)
            return refuse("a stride of weights " + in_quotes(layer.weight) + " does not divide their input");
        value.rows.factor /= layer.stride[0];
        value.columns.factor /= layer.stride[1];
        return {};
    }

    [[nodiscard]] Status check_inputs(std::string_view weight, std::int64_t inputs,
                                      const Value& value) const {
        if (inputs == value.channels) return {};
        return refuse("weights " + in_quotes(weight) + " are not for " + std::to_string(value.channels) +
                      " channels");
    }

    Status one(const Affine& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(sum(op.terms, op.offset, result));
        return define(op.out, result);
    }
    Status one(const StridedChain& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(sum(op.terms, op.offset, result));
        for (const Layer& of_chain : op.layers) NICRT_RETURN_IF_ERROR(layer(of_chain, false, result));
        return define(op.out, result);
    }
    Status one(const TransposedChain& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(sum(op.terms, op.offset, result));
        for (const Layer& of_chain : op.layers) NICRT_RETURN_IF_ERROR(layer(of_chain, true, result));
        if (op.picture) {
            const Element dtype = op.picture->dtype;
            const double most = dtype == Element::uint8 ? 255 : dtype == Element::uint16 ? 65535 : 1;
            if (!(0 <= op.picture->low && op.picture->low <= op.picture->high && op.picture->high <= most))
                return refuse(in_quotes(op.out) + " is clipped beyond the range of its type");
            result.dtype = dtype;
            result.picture = true;
        }
        return define(op.out, result);
    }
    Status one(const Concatenate& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(value(op.values.front(), result));
        result.channels = 0;
        for (const std::string_view name : op.values) {
            Value next;
            NICRT_RETURN_IF_ERROR(value(name, next));
            if (next.dtype != result.dtype || next.batched != result.batched || !(next.rows == result.rows) ||
                !(next.columns == result.columns))
                return refuse("a concatenation of values of different types or sizes");
            result.channels += next.channels;
            result.exact &= next.exact;
        }
        result.bound.reset();
        return define(op.out, result);
    }
    Status one(const SelectChannels& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(value(op.value, result));
        if (std::int64_t{op.first} + op.count > result.channels)
            return refuse(in_quotes(op.out) + " selects channels that " + in_quotes(op.value) +
                          " does not have");
        result.channels = op.count;
        return define(op.out, result);
    }
    Status one(const PadChannels& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(value(op.value, result));
        if (op.count < result.channels)
            return refuse(in_quotes(op.out) + " has fewer channels than " + in_quotes(op.value));
        result.channels = op.count;
        return define(op.out, result);
    }
    Status one(const Quantise& op) {
        constexpr std::int32_t most = 1 << 24;
        if (op.low < -most || op.low > op.high || op.high > most)
            return refuse(in_quotes(op.out) + " is clipped to a range that is none, or beyond 2^24");
        Value result;
        NICRT_RETURN_IF_ERROR(real(op.value, result));
        result.dtype = Element::int32;
        result.bound.reset();
        return define(op.out, result);
    }
    template <class Pointwise>
        requires requires(const Pointwise& op) { op.out, op.value; }
    Status one(const Pointwise& op) {  // tanh, absolute, log_magnitude
        Value result;
        NICRT_RETURN_IF_ERROR(real(op.value, result));
        return define(op.out, result);
    }

    Status one(const IntegerNetwork& op) {
        Value result;
        NICRT_RETURN_IF_ERROR(value(op.value, result));
        if (result.dtype != Element::int32 || !result.bound || !inputs_.contains(op.value))
            return refuse(in_quotes(op.value) + " is not an int32 input with a range");
        for (const IntegerLayer& hidden : op.hidden) {
            if (hidden.low > hidden.high)
                return refuse("layer " + in_quotes(hidden.weight) + " is clipped to a range that is none");
            NICRT_RETURN_IF_ERROR(integers(hidden, result));
        }
        std::vector<Value> made;  // a head reads none of the others
        for (const Head& of_network : op.heads) {
            made.push_back(result);
            NICRT_RETURN_IF_ERROR(head(of_network, made.back()));
        }
        for (std::size_t i = 0; i < made.size(); ++i) NICRT_RETURN_IF_ERROR(define(op.heads[i].out, made[i]));
        return {};
    }

    Status integers(const IntegerConvolution& layer, Value& value) {
        const View* weight = nullptr;
        NICRT_RETURN_IF_ERROR(view(layer.weight, one_of(Element::int8), 4, weight));
        NICRT_RETURN_IF_ERROR(check_inputs(layer.weight, weight->shape[0], value));
        value.channels = weight->shape[1];
        NICRT_RETURN_IF_ERROR(of_outputs(layer.bias, Element::int32, layer, value.channels));
        NICRT_RETURN_IF_ERROR(of_outputs(layer.multiplier, Element::float32, layer, value.channels));
        if (layer.negative)
            NICRT_RETURN_IF_ERROR(of_outputs(*layer.negative, Element::float32, layer, value.channels));
        return stretch(layer.stride, value);
    }

    /// A vector of numbers per output channel, or a matrix of them that a parameter picks a row of.
    Status of_outputs(std::string_view name, Element dtype, const IntegerConvolution& layer,
                      std::int64_t outputs) {
        const View* tensor = nullptr;
        NICRT_RETURN_IF_ERROR(view(name, one_of(dtype), layer.row ? 2 : 1, tensor));
        if (tensor->shape.back() != outputs)
            return refuse("tensor " + in_quotes(name) + " is not of " + std::to_string(outputs) +
                          " channels");
        return layer.row ? row_of(*layer.row, *tensor) : Status{};
    }

    Status head(const Head& head, Value& value) {
        NICRT_RETURN_IF_ERROR(integers(head, value));
        value.bound.reset();
        if (!head.index) {
            value.dtype = Element::float32;
            value.exact = false;
            return {};
        }
        const IndexRule& rule = *head.index;
        Pair range{};
        NICRT_RETURN_IF_ERROR(parameter(rule.skip, range));
        NICRT_RETURN_IF_ERROR(parameter(rule.minus, range));
        std::int64_t scales = 0;
        if (rule.scales) {
            const View* table = nullptr;
            NICRT_RETURN_IF_ERROR(view(rule.scales->tensor, one_of(Element::int16), 1, table));
            scales = table->shape[0];
        }
        const std::string fault = fault_of(rule, head.out, reach_of(range), scales);
        if (!fault.empty()) return refuse(fault);
        value.dtype = Element::uint8;
        return {};
    }

    std::string_view name_;
    const Graph& graph_;
    const NativeForm& form_;
    std::map<std::string_view, std::pair<const View*, bool>> views_;  ///< and whether an operation uses it
    std::set<std::string_view> inputs_;
    std::map<std::string_view, const Port*> parameters_;
    std::map<std::string_view, Value> values_;
};

}  // namespace

Status check_native(std::string_view name, const Graph& graph) { return Check(name, graph).run(); }

}  // namespace nicrt::bundle
