// Bundles: a packed one is refused with a typed status, or all of its parts can be asked for; a manifest is
// refused, or written in a form that is read as the same manifest and written again as the same text.
#include "nicrt/bundle.hpp"

#include <string>

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

void try_packed(std::span<const std::uint8_t> data) {
    const Exact bytes(data);
    std::shared_ptr<const bundle::Bundle> opened;
    const Status status = bundle::Bundle::open_packed(bundle::memory_source(bytes.bytes()), opened);
    MUST(is_typed(status));
    if (!status.ok()) return;
    MUST(is_typed(opened->check_parts()));
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
