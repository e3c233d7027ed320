#include "nicrt/proofs.hpp"

#include <algorithm>
#include <limits>

#include "bundle/check.hpp"
#include "parallel.hpp"
#include "sha256.hpp"

namespace nicrt::engine {
namespace {

using bundle::Element;
using bundle::in_quotes;

std::uint64_t splitmix64(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15U;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9U;
    x = (x ^ x >> 27) * 0x94D049BB133111EBU;
    return x ^ x >> 31;
}

/// Values of one input, from u = splitmix64(start + i) on.
template <class Value>
void fill(std::span<Value> values, const bundle::Pair& range, std::uint64_t start, bool extremes) {
    const std::int64_t low = range[0], high = range[1];
    const auto count = static_cast<std::uint64_t>(high - low + 1);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint64_t u = splitmix64(start + i);
        const std::int64_t drawn = low + static_cast<std::int64_t>(u % count);
        values[i] = static_cast<Value>(!extremes ? drawn : (u & 1) != 0 ? high : low);
    }
}

/// Calls function(a value of the port's type); false for a type that no exact graph has.
template <class Function>
bool with_integer(Element dtype, Function function) {
    switch (dtype) {
        case Element::int64: function(std::int64_t{}); return true;
        case Element::int32: function(std::int32_t{}); return true;
        case Element::uint16: function(std::uint16_t{}); return true;
        case Element::uint8: function(std::uint8_t{}); return true;
        default: return false;
    }
}

/// As int32, a block at a time.
template <class Value>
void hash_values(std::span<const Value> values, Sha256& hash) {
    std::array<std::int32_t, 1024> block;
    for (std::size_t i = 0; i < values.size(); i += block.size()) {
        const std::size_t count = std::min(block.size(), values.size() - i);
        for (std::size_t k = 0; k < count; ++k) block[k] = static_cast<std::int32_t>(values[i + k]);
        hash.update({reinterpret_cast<const std::uint8_t*>(block.data()), count * sizeof block[0]});
    }
}

Status input_of(const bundle::Port& port, const bundle::Proof& proof, std::size_t number, Budget* budget,
                Array& out) {
    std::vector<std::int64_t> shape;
    NICRT_RETURN_IF_ERROR(shape_of(port, proof.sizes, shape));
    NICRT_RETURN_IF_ERROR(Array::make(port.dtype, shape, budget, out));
    const std::uint64_t start =
        (static_cast<std::uint64_t>(proof.seed) << 32) + (static_cast<std::uint64_t>(number) << 28);
    const bool made = port.range && with_integer(port.dtype, [&](auto value) {
                          using Value = decltype(value);
                          const std::size_t count = static_cast<std::size_t>(out.bytes()) / sizeof(Value);
                          fill(std::span(out.as<Value>(), count), *port.range, start, proof.seed % 2 != 0);
                      });
    return made ? Status() : invalid_argument("an input that is not of integers within a range");
}

/// The integer outputs, as a run is asked for them.
Status outputs_of(const bundle::Graph& graph, const bundle::Proof& proof, std::vector<Named>& out) {
    for (const auto& [name, port] : graph.outputs) {
        if (!bundle::is_integer(port.dtype)) continue;
        Named& output = out.emplace_back();
        output.port = name;
        output.array.dtype = port.dtype;
        NICRT_RETURN_IF_ERROR(shape_of(port, proof.sizes, output.array.shape));
    }
    return {};
}

Status run(const bundle::Graph& graph, const bundle::Proof& proof, const Executable& executable,
           const Work& work, std::string& sha256) {
    NICRT_RETURN_IF_ERROR(work.check());
    std::vector<Named> inputs, outputs;
    NICRT_RETURN_IF_ERROR(proof_inputs(graph, proof, work.budget, inputs));
    NICRT_RETURN_IF_ERROR(outputs_of(graph, proof, outputs));
    NICRT_RETURN_IF_ERROR(executable.run(inputs, outputs, work));
    return outputs_sha256(graph, outputs, sha256);
}

}  // namespace

Status shape_of(const bundle::Port& port, const bundle::Named<std::int32_t>& sizes,
                std::vector<std::int64_t>& out) {
    out.clear();
    for (const bundle::Dimension& dimension : port.dims) {
        const std::int32_t* const size = dimension.extent > 0 ? nullptr : sizes.find(dimension.symbol);
        if (dimension.extent == 0 && size == nullptr)
            return invalid_argument("there is no size for the dimension " + in_quotes(dimension.symbol));
        out.push_back(size == nullptr ? dimension.extent : std::int64_t{dimension.factor} * *size);
    }
    return {};
}

Status proof_inputs(const bundle::Graph& graph, const bundle::Proof& proof, Budget* budget,
                    std::vector<Named>& out) {
    return status_of([&]() -> Status {
        out.clear();
        for (const auto& [name, port] : graph.inputs) {
            const std::size_t number = out.size();
            Named& input = out.emplace_back();
            input.port = name;
            NICRT_RETURN_IF_ERROR(input_of(port, proof, number, budget, input.array));
        }
        return {};
    });
}

Status outputs_sha256(const bundle::Graph& graph, std::span<const Named> outputs, std::string& out) {
    Sha256 hash;
    for (const auto& [name, port] : graph.outputs) {
        if (!bundle::is_integer(port.dtype)) continue;
        const auto output = std::find_if(outputs.begin(), outputs.end(),
                                         [&, name = name](const Named& each) { return each.port == name; });
        if (output == outputs.end() || output->array.data == nullptr || output->array.dtype != port.dtype)
            return invalid_argument("output " + in_quotes(name) + " is missing, or of another type");
        with_integer(port.dtype, [&](auto value) {
            using Value = decltype(value);
            const std::size_t count = static_cast<std::size_t>(output->array.bytes()) / sizeof(Value);
            hash_values(std::span<const Value>(output->array.as<Value>(), count), hash);
        });
    }
    out = hash.hex_digest();
    return {};
}

Status prove(const bundle::Graph& graph, const Executable& executable, const Work& work) {
    return status_of([&]() -> Status {
        for (const bundle::Proof& proof : graph.proofs) {
            std::string sha256;
            const Status status = run(graph, proof, executable, work, sha256);
            if (status.code() == Code::limit || status.code() == Code::cancelled) return status;
            if (!status.ok())
                return {Code::unsupported, "it fails on a proof vector (" + status.message() + ")"};
            if (sha256 != proof.sha256)
                return {Code::unsupported,
                        "its results differ from the proof vectors: not exact on this device"};
        }
        return {};
    });
}

std::string proof_key(const bundle::Bundle& bundle, std::string_view graph, std::string_view identity) {
    Sha256 hash;
    hash.update(bundle.graph_hash(graph));
    for (const bundle::Proof& proof : bundle.manifest().graphs.find(graph)->proofs) {
        hash.update("\n");
        hash.update(std::to_string(proof.seed));
        for (const auto& [symbol, size] : proof.sizes) {
            hash.update(" ");
            hash.update(symbol);
            hash.update("=");
            hash.update(std::to_string(size));
        }
        hash.update(" ");
        hash.update(proof.sha256);
    }
    hash.update("\n");
    hash.update(identity);
    return hash.hex_digest();
}

}  // namespace nicrt::engine
