// Executables of our own kernels; native.cpp chooses between them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "backends/vectors.hpp"
#include "nicrt/engine.hpp"

namespace nicrt::engine {

/// A graph of native form, as its executables keep it.
struct NativeGraph {
    bundle::Graph graph;
    std::shared_ptr<const void> text;  ///< what its names are views of
    Weights weights;

    /// The parameters of a run.
    [[nodiscard]] Parameters parameters(std::span<const Named> inputs) const;
    /// The least parameters that there are, or the largest.
    [[nodiscard]] Parameters extreme_parameters(bool largest) const;
};

/// Rows (0) or columns (1) of a convolution; of a layer of a chain or of a network of integers.
template <class Convolution>
[[nodiscard]] native::Axis axis_of(const bundle::Tensor& weight, const Convolution& layer, std::size_t axis) {
    return {static_cast<std::uint32_t>(weight.shape[2 + axis]),
            static_cast<std::uint32_t>(layer.stride[axis]), static_cast<std::uint32_t>(layer.pad[axis])};
}

/// An input by its port's name; the executor gives every port's.
[[nodiscard]] inline const Array& array_of(std::span<const Named> arrays, std::string_view port) {
    for (const Named& each : arrays)
        if (each.port == port) return each.array;
    throw std::runtime_error("an input is missing");
}

/// What the parameters of a run decide, kept until they change. Safe to use from many threads.
template <class Made>
class PerParameters {
public:
    using Make = std::function<Status(const Parameters&, Made&)>;

    explicit PerParameters(Make make) : make_(std::move(make)) {}

    Status of(Parameters parameters, std::shared_ptr<const Made>& out) const {
        {
            const std::lock_guard lock(mutex_);
            if (made_ != nullptr && parameters == parameters_) {
                out = made_;
                return {};
            }
        }
        auto made = std::make_shared<Made>();
        NICRT_RETURN_IF_ERROR(make_(parameters, *made));
        out = std::move(made);
        const std::lock_guard lock(mutex_);
        parameters_ = std::move(parameters);
        made_ = out;
        return {};
    }

private:
    Make make_;
    mutable std::mutex mutex_;
    mutable Parameters parameters_;
    mutable std::shared_ptr<const Made> made_;
};

/// What a run of ours returns: anything but memory, time and the caller's will is a defect, as the inputs
/// have been checked against the graph's ports.
[[nodiscard]] Status of_run(Status status);

/// unsupported or invalid_argument: the kernels cannot do it.
Status make_chain(NativeGraph native, const bundle::TransposedChain& chain, native::Arithmetic arithmetic,
                  std::shared_ptr<const Executable>& out);
Status make_network(NativeGraph native, const bundle::IntegerNetwork& network, native::IntegerIsa isa,
                    std::shared_ptr<const Executable>& out);

}  // namespace nicrt::engine
