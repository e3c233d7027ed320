// Bundles: a packed one is refused with a typed status, or all of its parts can be asked for; a manifest is
// refused, or written in a form that is read as the same manifest and written again as the same text.
#include "nicrt/bundle.hpp"

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bundle/manifest.hpp"
#include "input.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

bool is_typed(const Status& status) {
    return status.ok() || status.code() == Code::unsupported || status.code() == Code::limit;
}

void try_manifest(std::span<const std::uint8_t> data) {
    bundle::Manifest manifest, same;
    const Status status = bundle::read_manifest({data.begin(), data.end()}, manifest);
    MUST(is_typed(status));
    if (!status.ok()) return;
    std::string once, twice;
    MUST(bundle::write(manifest, once).ok());
    MUST(bundle::read_manifest(once, same).ok());
    MUST(bundle::write(same, twice).ok());
    MUST(once == twice);
}

/// What any stream of the programs may ask for.
void try_codebooks(const bundle::Bundle& opened) {
    for (const auto& [name, variant] : opened.manifest().variants)
        for (const bundle::Stage& stage : variant.program.stages)
            for (const bundle::Step& step : stage.steps) {
                const auto* const entropy = std::get_if<bundle::Entropy>(&step);
                if (entropy == nullptr) continue;
                std::shared_ptr<const Codebook> codebook;
                std::shared_ptr<const bundle::ChannelTables> tables;
                if (entropy->by == "channel") {
                    MUST(is_typed(opened.codebook(entropy->tables, std::array{0}, tables)));
                    if (tables == nullptr) continue;
                    MUST(tables->channels.size() == static_cast<std::size_t>(entropy->channels));
                    codebook = tables->codebook;
                } else {
                    MUST(opened.codebook(entropy->tables, codebook).ok());
                }
                std::vector<float> lengths;
                MUST(code_lengths(*codebook, 300, lengths).ok());
                for (const float length : lengths) MUST(length > 0 && length < 64);
            }
}

void try_packed(std::span<const std::uint8_t> data) {
    const Exact bytes(data);
    std::shared_ptr<const bundle::Bundle> opened;
    const Status status = bundle::Bundle::open_packed(bundle::memory_source(bytes.bytes()), opened);
    MUST(is_typed(status));
    if (!status.ok()) return;
    const Status parts = opened->check_parts();
    MUST(is_typed(parts));
    try_codebooks(*opened);
    std::vector<std::uint8_t> again;
    const Status packed = opened->packed(again);
    MUST(is_typed(packed) && packed.ok() == parts.ok());
    std::uint64_t size = 0;
    MUST(is_typed(opened->decoder_bytes(size)));
    if (parts.ok()) MUST(opened->size_bytes(size).ok() && size < again.size());
    std::string text;
    MUST(bundle::write(opened->manifest(), text).ok());
    for (const auto& [name, graph] : opened->manifest().graphs) MUST(opened->graph_hash(name).size() == 64);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span<const std::uint8_t> bytes(data, size);
    if (size > 0 && data[0] == '{') try_manifest(bytes);
    else try_packed(bytes);
    return 0;
}
