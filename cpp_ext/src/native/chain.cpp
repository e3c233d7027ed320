#include "../cpu.hpp"
#include "../parallel.hpp"
#include "nicrt/native.hpp"
#include "packed.hpp"

namespace nicrt::native {
namespace {

Arithmetic best() {
    for (const Arithmetic a : {Arithmetic::avx512_bf16, Arithmetic::avx512, Arithmetic::avx2})
        if (arithmetic_available(a)) return a;
    return Arithmetic::scalar;
}

const Kernels& kernels_of(Arithmetic arithmetic) {
    switch (arithmetic) {
        case Arithmetic::avx512_bf16:
        case Arithmetic::avx512: return kernels_avx512();
        case Arithmetic::avx2: return kernels_avx2();
        default: return kernels_scalar();
    }
}

}  // namespace

bool arithmetic_available(Arithmetic arithmetic) {
    switch (arithmetic) {
        case Arithmetic::best:
        case Arithmetic::scalar: return true;
        case Arithmetic::avx2: return cpu().avx2 && cpu().fma;
        case Arithmetic::avx512: return cpu().avx512 && cpu().fma;
        case Arithmetic::avx512_bf16: return cpu().avx512_bf16 && cpu().fma;
    }
    return false;
}

Status Chain::make(std::span<const Layer> layers, Arithmetic arithmetic, Chain& chain) {
    if (!arithmetic_available(arithmetic)) return invalid_argument("this processor has no such instructions");
    if (arithmetic == Arithmetic::best) arithmetic = best();
    return status_of([&] {
        auto packed = std::make_shared<PackedChain>();
        NICRT_RETURN_IF_ERROR(pack(layers, kernels_of(arithmetic), arithmetic, *packed));
        chain.packed_ = std::move(packed);
        return Status();
    });
}

Arithmetic Chain::arithmetic() const { return packed_->arithmetic; }
std::size_t Chain::input_channels() const { return packed_->layers.front().in; }
std::size_t Chain::output_channels() const { return packed_->layers.back().out; }
std::size_t Chain::scale_y() const { return packed_->scale_y; }
std::size_t Chain::scale_x() const { return packed_->scale_x; }

Status Chain::run(const Input& input, float low, float high, const Work& work, std::uint8_t* out) const {
    return status_of([&] { return native::run(*packed_, input, low, high, work, out); });
}

}  // namespace nicrt::native
