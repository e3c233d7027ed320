// Bytes in memory as a source; files are in source_files.cpp.
#include <algorithm>
#include <utility>

#include "nicrt/bundle.hpp"

namespace nicrt::bundle {
namespace {

struct Memory {
    std::span<const std::uint8_t> bytes;
    std::shared_ptr<void> keeper;
};

const Memory& memory_of(const Source& source) { return *static_cast<const Memory*>(source.context.get()); }

Status size_in_memory(const Source& source, std::string_view name, std::uint64_t& out) {
    if (!name.empty()) return {Code::unsupported, source.place + ": it lacks '" + std::string(name) + "'"};
    out = memory_of(source).bytes.size();
    return {};
}

Status read_memory(const Source& source, std::string_view name, std::uint64_t start,
                   std::span<std::uint8_t> out) {
    std::uint64_t size = 0;
    if (Status status = size_in_memory(source, name, size); !status.ok()) return status;
    if (start > size || out.size() > size - start)
        return {Code::unsupported,
                source.place + ": it ends before byte " + std::to_string(start + out.size())};
    const auto part = memory_of(source).bytes.subspan(static_cast<std::size_t>(start), out.size());
    std::copy(part.begin(), part.end(), out.begin());
    return {};
}

}  // namespace

Source memory_source(std::span<const std::uint8_t> bytes, std::shared_ptr<void> keeper) {
    return {"the bundle in memory", std::make_shared<Memory>(Memory{bytes, std::move(keeper)}),
            size_in_memory, read_memory};
}

}  // namespace nicrt::bundle
