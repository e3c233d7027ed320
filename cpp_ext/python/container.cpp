// Parsed files.
#include "nicrt/container.hpp"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;

PyFile parse(nb::handle data, std::uint32_t max_header_bytes, std::uint64_t max_pixels,
             std::uint32_t max_stages) {
    const Buffer bytes(data);
    auto file = std::make_shared<File>();
    without_gil(
        [&] { return parse_header(bytes.bytes(), {max_header_bytes, max_pixels, max_stages}, *file); });
    return {std::move(file)};
}

std::vector<std::vector<PyStream>> stages_of(const PyFile& self) {
    std::vector<std::vector<PyStream>> stages;
    for (const auto& stage : self.file->header.stages) {
        auto& streams = stages.emplace_back();
        for (const auto& stream : stage.streams) streams.push_back({{self.file, &stream}});
    }
    return stages;
}

void py_check_segments(const PyFile& self, nb::handle data, std::optional<std::size_t> stages) {
    const Buffer bytes(data);
    without_gil([&] { return check_segments(*self.file, bytes.bytes(), stages.value_or(SIZE_MAX)); });
}

std::size_t segment_count(const PyStream& self) {
    std::size_t count = 0;
    for (const auto& tile : self.stream->tiles) count += tile.segments.size();
    return count;
}

std::uint64_t size_of(const PyStream& self) {
    std::uint64_t bytes = 0;
    for (const auto& tile : self.stream->tiles)
        for (const auto& segment : tile.segments) bytes += segment.size;
    return bytes;
}

std::map<unsigned, std::size_t> lanes_of(const PyStream& self) {
    std::map<unsigned, std::size_t> segments;
    for (const auto& tile : self.stream->tiles)
        if (!tile.segments.empty()) segments[tile.lanes] += tile.segments.size();
    return segments;
}

}  // namespace

void register_container(nb::module_& module) {
    nb::class_<PyStream>(module, "Stream", "One entropy step of one stage of a parsed file.")
        .def_prop_ro("tile_count", [](const PyStream& self) { return self.stream->tiles.size(); })
        .def_prop_ro("segment_count", &segment_count)
        .def_prop_ro("size", &size_of, "Bytes of all its segments.")
        .def_prop_ro("lanes", &lanes_of, "Number of segments by their number of lanes.");

    nb::class_<PyFile>(module, "File", "The header of a .nic file and where its segments lie.")
        .def_prop_ro("symbol_id", [](const PyFile& self) { return to_bytes(self.file->header.symbol_id); })
        .def_prop_ro("picture_id", [](const PyFile& self) { return to_bytes(self.file->header.picture_id); })
        .def_prop_ro("width", [](const PyFile& self) { return self.file->header.width; })
        .def_prop_ro("height", [](const PyFile& self) { return self.file->header.height; })
        .def_prop_ro("tile_size", [](const PyFile& self) { return self.file->header.tile_size; })
        .def_prop_ro("parameters", [](const PyFile& self) { return self.file->header.parameters; })
        .def_prop_ro("stages", &stages_of)
        .def_prop_ro(
            "header_size", [](const PyFile& self) { return self.file->header_bytes; },
            "Bytes from the signature to the header's CRC.")
        .def_prop_ro(
            "total_size", [](const PyFile& self) { return self.file->total_bytes; },
            "Bytes of the whole file.")
        .def(
            "complete_stages",
            [](const PyFile& self, std::uint64_t size) { return self.file->complete_stages(size); }, "size"_a,
            "How many whole stages, from the first on, lie within the first `size` bytes.")
        .def(
            "check_complete",
            [](const PyFile& self, std::uint64_t size) { raise_if_error(check_complete(*self.file, size)); },
            "size"_a, "Raises when a file of `size` bytes is cut short or has bytes after its end.")
        .def("check_segments", &py_check_segments, "data"_a, "stages"_a = nb::none(),
             "Checks the CRC of every segment of the first `stages` stages, of all where it is None.");

    const Limits limits;
    module.def(
        "parse", &parse, "data"_a, "max_header_bytes"_a = limits.max_header_bytes,
        "max_pixels"_a = limits.max_pixels, "max_stages"_a = limits.max_stages,
        "Parses the header. The data may lack any of the payload: see complete_stages and check_complete.");
}

}  // namespace nicrt::python
