// Reads the symbols of a stream, or makes them ready to be written.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <string>

#include "bundle/check.hpp"
#include "engine/rectangles.hpp"
#include "engine/state.hpp"

namespace nicrt::engine {
namespace {

using bundle::in_quotes;
using program::EntropyStep;
using program::Step;

constexpr std::int32_t kSymbolMin = INT16_MIN, kSymbolMax = INT16_MAX;

std::vector<std::int64_t> tensor_shape(const std::array<std::int32_t, 3>& shape) {
    return {1, shape[0], shape[1], shape[2]};
}

/// The same values, without the batch.
Array without_batch(Array array) {
    array.shape.erase(array.shape.begin());
    return array;
}

Array with_batch(Array array) {
    array.shape.insert(array.shape.begin(), 1);
    return array;
}

/// [1, c, h', w'] → the first rows and columns of each channel, [c, h, w].
Status first_places(const Array& array, const std::array<std::int32_t, 3>& shape, Budget* budget,
                    Array& out) {
    if (array.shape == tensor_shape(shape)) {
        out = without_batch(array);
        return {};
    }
    const std::array<std::int64_t, 3> wanted{shape[0], shape[1], shape[2]};
    NICRT_RETURN_IF_ERROR(Array::make(array.dtype, wanted, budget, out));
    const auto rows = static_cast<std::size_t>(array.shape[2]),
               columns = static_cast<std::size_t>(array.shape[3]);
    const auto width = static_cast<std::size_t>(shape[2]);
    std::uint8_t* to = out.data;
    for (std::size_t c = 0; c < static_cast<std::size_t>(shape[0]); ++c)
        for (std::size_t y = 0; y < static_cast<std::size_t>(shape[1]); ++y, to += width)
            std::memcpy(to, array.data + (c * rows + y) * columns, width);
    return {};
}

/// What a stream's symbols hold: int16, or less where an exact graph that reads them is bound to -n..n. (A
/// range from 0 is that of classes, which are not clipped.)
bundle::Pair symbol_range(const bundle::Manifest& manifest, const bundle::Stage& stage,
                          std::string_view stream) {
    std::int32_t limit = kSymbolMax;
    const auto look = [&](const bundle::Run& run) {
        for (const auto& [port, source] : run.inputs) {
            const auto& range = manifest.graphs.find(run.graph)->inputs.find(port)->range;
            if (source == stream && range && (*range)[0] == -(*range)[1])
                limit = std::min(limit, (*range)[1]);
        }
    };
    for (const bundle::Step& step : stage.steps)
        if (const auto* const run = std::get_if<bundle::Run>(&step)) look(*run);
    for (const bundle::Run& run : stage.show.runs) look(run);
    return limit < kSymbolMax ? bundle::Pair{-limit, limit} : bundle::Pair{kSymbolMin, kSymbolMax};
}

/// Counts clipped symbols. unsupported: symbols that no encoder's graph gives but from latents that are no
/// numbers.
Status count_clipped(Coded& coded) {
    const auto* const symbols = coded.symbols.as<const std::int32_t>();
    const std::size_t count = coded.symbols.bytes() / sizeof(std::int32_t);
    std::int32_t least = 0, most = 0;
    for (std::size_t i = 0; i < count; ++i) {
        least = std::min(least, symbols[i]);
        most = std::max(most, symbols[i]);
    }
    if (least < kSymbolMin || most > kSymbolMax)
        return {Code::unsupported, "the bundle gives symbols of stream " + in_quotes(coded.entropy->out) +
                                       " beyond " + std::to_string(kSymbolMin) + ".." +
                                       std::to_string(kSymbolMax) +
                                       " for this picture: its weights are damaged"};
    if (least > coded.low && most < coded.high) return {};
    coded.clipped = static_cast<std::uint64_t>(std::count_if(
        symbols, symbols + count, [&](std::int32_t s) { return s <= coded.low || s >= coded.high; }));
    return {};
}

/// Sets what is not coded to 0, as the decoder will.
void clear_uncoded(const Coded& coded) {
    if (coded.by_channel) return;  // whose tables are all there
    auto* const symbols = coded.symbols.as<std::int32_t>();
    const std::size_t tables = coded.codebook->size(), count = coded.symbols.bytes() / sizeof(std::int32_t);
    if (tables > UINT8_MAX) return;
    for (std::size_t i = 0; i < count; ++i) symbols[i] = coded.index.data[i] < tables ? symbols[i] : 0;
}

}  // namespace

TensorShape Coded::shape() const {
    const auto extent = [&](std::size_t axis) { return static_cast<std::uint32_t>(symbols.shape[axis]); };
    return {extent(0), extent(1), extent(2)};
}

Status Execution::Impl::tables(const Step& step, const EntropyStep& work, Coded& out) const {
    const std::string_view group = work.entropy->tables;
    out.entropy = work.entropy;
    out.by_channel = !work.index.has_value();
    if (out.by_channel) {
        std::shared_ptr<const bundle::ChannelTables> made;
        NICRT_RETURN_IF_ERROR(bundle.codebook(group, work.sets, made));
        out.codebook = made->codebook;
        out.index = {
            bundle::Element::uint8, {static_cast<std::int64_t>(made->channels.size())}, nullptr, nullptr};
        out.index.data = const_cast<std::uint8_t*>(made->channels.data());  // which nobody changes
        out.index.keeper = std::const_pointer_cast<bundle::ChannelTables>(std::move(made));
        return {};
    }
    NICRT_RETURN_IF_ERROR(bundle.codebook(group, out.codebook));
    const program::Tensor& planned = plan.tensors[*work.index];
    Array index;
    NICRT_RETURN_IF_ERROR(read_part(planned, tensors[*work.index], step.rect, in.work.budget, index));
    if (index.shape.size() != 4 || index.shape[1] != work.shape[0] || index.shape[2] < work.shape[1] ||
        index.shape[3] < work.shape[2])
        return {Code::unsupported, "the bundle's index " + in_quotes(planned.name) +
                                       " is smaller than its symbols " + in_quotes(work.entropy->out)};
    return first_places(index, work.shape, in.work.budget, out.index);
}

Status Execution::Impl::take_given(const EntropyStep& work, Array& out) {
    const std::array<std::int64_t, 3> wanted{work.whole[0], work.whole[1], work.whole[2]};
    if (given_next >= in.given->size()) return invalid_argument("fewer symbols than streams");
    out = (*in.given)[given_next++];
    if (out.dtype != bundle::Element::int32 ||
        !std::equal(out.shape.begin(), out.shape.end(), wanted.begin(), wanted.end()))
        return invalid_argument("the symbols of stream " + in_quotes(work.entropy->out) +
                                " have another shape");
    return {};
}

Status Execution::Impl::run_entropy(const Step& step, const EntropyStep& work) {
    if (in.encoding) return encode(step, work);
    return in.given ? decode_given(step, work) : decode(step, work);
}

Status Execution::Impl::decode(const Step& step, const EntropyStep& work) {
    Coded of;
    NICRT_RETURN_IF_ERROR(tables(step, work, of));
    Array symbols;
    NICRT_RETURN_IF_ERROR(
        Array::make(bundle::Element::int32, tensor_shape(work.shape), in.work.budget, symbols));
    const Stream* stream = streams[work.stream];
    Stream chosen;  // the tiles of a region
    const auto tiles = static_cast<std::size_t>(work.tile_rows) * static_cast<std::size_t>(work.tile_columns);
    if (tiles != stream->tiles.size()) {
        for (std::int32_t row = 0; row < work.tile_rows; ++row)
            for (std::int32_t column = 0; column < work.tile_columns; ++column)
                chosen.tiles.push_back(stream->tiles.at(static_cast<std::size_t>(
                    (work.first_tile_row + row) * work.grid_columns + work.first_tile_column + column)));
        stream = &chosen;
    }
    const auto stride = static_cast<std::uint32_t>(work.entropy->stride);
    of.symbols = without_batch(symbols);
    const auto start = std::chrono::steady_clock::now();
    NICRT_RETURN_IF_ERROR(decode_stream(*of.codebook, of.tables(), of.shape(), {in.tile / stride, in.work},
                                        in.file, *stream, symbols.as<std::int32_t>()));
    if (in.trace) {
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        NICRT_RETURN_IF_ERROR(in.trace("entropy " + std::string(work.entropy->out), seconds.count()));
    }
    tensors[work.out] = std::move(symbols);
    coded = std::move(of);
    return {};
}

Status Execution::Impl::decode_given(const Step& step, const EntropyStep& work) {
    Array symbols;
    NICRT_RETURN_IF_ERROR(take_given(work, symbols));
    tensors[work.out] = with_batch(std::move(symbols));
    return keep(step, work, {});
}

Status Execution::Impl::encode(const Step& step, const EntropyStep& work) {
    Array source;
    Memo::Key key;
    if (in.given) {
        NICRT_RETURN_IF_ERROR(take_given(work, source));
    } else {
        if (!work.symbols || tensors[*work.symbols].data == nullptr)
            return {Code::internal, "there are no symbols to code"};
        source = tensors[*work.symbols];
        if (source.dtype != bundle::Element::int32 || source.shape != tensor_shape(work.whole))
            return {Code::unsupported,
                    "the bundle's symbols " + in_quotes(work.entropy->out) + " are not those of the picture"};
        key = {static_cast<std::int64_t>(versions[*work.symbols]), work.index ? 1 : 0};
        if (work.index) key.push_back(static_cast<std::int64_t>(versions[*work.index]));
        else key.insert(key.end(), work.sets.begin(), work.sets.end());
    }
    Array symbols;
    NICRT_RETURN_IF_ERROR(
        Array::make(bundle::Element::int32, tensor_shape(work.whole), in.work.budget, symbols));
    std::memcpy(symbols.data, source.data, symbols.bytes());
    Coded made;
    NICRT_RETURN_IF_ERROR(tables(step, work, made));
    const bundle::Pair range = symbol_range(bundle.manifest(), *round_of(step).stage, work.entropy->out);
    made.symbols = without_batch(symbols);
    made.low = range[0];
    made.high = range[1];
    NICRT_RETURN_IF_ERROR(count_clipped(made));
    clear_uncoded(made);
    tensors[work.out] = std::move(symbols);
    NICRT_RETURN_IF_ERROR(keep(step, work, std::move(key)));
    made.symbols = without_batch(tensors[work.out]);
    coded = std::move(made);
    return {};
}

/// The stream's tensor has the version that it had the last time if it was made of the same then; or without
/// a key, if its values are the same.
Status Execution::Impl::keep(const Step& step, const EntropyStep& work, Memo::Key key) {
    if (in.memo == nullptr) return {};
    const Memo::Place place{round_of(step).number, work.entropy};
    Array& tensor = tensors[work.out];
    auto kept = in.memo->last(place);
    const bool same = kept != nullptr &&
                      (key.empty() ? kept->tensors[0].shape == tensor.shape &&
                                         std::memcmp(kept->tensors[0].data, tensor.data, tensor.bytes()) == 0
                                   : kept->key == key);
    if (!same) kept = in.memo->keep(place, std::move(key), {tensor});
    tensor = kept->tensors[0];
    versions[work.out] = kept->versions[0];
    return {};
}

}  // namespace nicrt::engine
