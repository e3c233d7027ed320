// Codebook, single segments, CRC.
#include "nicrt/segment.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "convert.hpp"
#include "nicrt/crc32c.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;
using std::to_string;

template <class Scalar>
using Vector = Array<Scalar, nb::ndim<1>>;

constexpr std::pair<const char*, Isa> kIsas[] = {
    {"best", Isa::best}, {"scalar", Isa::scalar}, {"avx2", Isa::avx2}, {"avx512", Isa::avx512}};
constexpr std::pair<const char*, DecodePath> kPaths[] = {
    {"automatic", DecodePath::automatic}, {"lookup", DecodePath::lookup}, {"search", DecodePath::search}};

template <class Choices>
auto choose(const Choices& choices, const std::string& name, const char* what) {
    std::string known;
    for (const auto& [choice, value] : choices) {
        if (name == choice) return value;
        known += std::string(known.empty() ? "" : ", ") + choice;
    }
    throw nb::value_error((std::string(what) + " " + name + "; known: " + known).c_str());
}

void make_codebook(PyCodebook* self, const Vector<const std::int16_t>& low,
                   const Vector<const std::uint8_t>& shift, const Vector<const std::int32_t>& sizes,
                   const Vector<const std::uint16_t>& frequencies) {
    const std::size_t count = low.size();
    require(shift.size() == count && sizes.size() == count, "low, shift and sizes differ in length");
    std::vector<TableView> tables;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t size = sizes(i);
        require(size >= 0 && static_cast<std::size_t>(size) <= frequencies.size() - begin,
                "table " + to_string(i) + " has more frequencies than there are");
        tables.push_back({low(i), shift(i), {frequencies.data() + begin, static_cast<std::size_t>(size)}});
        begin += static_cast<std::size_t>(size);
    }
    require(begin == frequencies.size(), "more frequencies than the sizes of the tables add up to");
    std::shared_ptr<const Codebook> built;
    without_gil([&] { return Codebook::build(tables, built); });
    new (self) PyCodebook{std::move(built)};
}

nb::list tables_of(const PyCodebook& self) {
    nb::list tables;
    for (std::size_t i = 0; i < self.tables->size(); ++i) {
        const TableView table = self.tables->table(i);
        const std::vector<std::uint16_t> frequencies(table.frequencies.begin(), table.frequencies.end());
        tables.append(nb::make_tuple(table.low, table.shift, frequencies));
    }
    return tables;
}

Array<float, nb::numpy, nb::ndim<2>> py_code_lengths(const PyCodebook& self, std::int32_t reach) {
    std::vector<float> lengths;
    without_gil([&] { return code_lengths(*self.tables, reach, lengths); });
    const auto result = new_array<float>({self.tables->size(), 2 * static_cast<std::size_t>(reach) + 1});
    std::copy(lengths.begin(), lengths.end(), result.data());
    return result;
}

nb::bytes py_encode_segment(const PyCodebook& codebook, const Vector<const std::uint8_t>& table_ids,
                            const Vector<const std::int16_t>& symbols, unsigned lanes) {
    require(table_ids.size() == symbols.size(), "table_ids and symbols differ in length");
    std::vector<std::uint8_t> segment;
    without_gil([&] {
        return encode_segment(*codebook.tables, table_ids.data(), symbols.data(), symbols.size(), lanes,
                              segment);
    });
    return to_bytes(segment);
}

Array<std::int16_t, nb::numpy, nb::ndim<1>> py_decode_segment(
    const PyCodebook& codebook, const Vector<const std::uint8_t>& table_ids, nb::handle segment,
    unsigned lanes, const std::string& isa, const std::string& path,
    std::optional<Array<std::int16_t, nb::numpy, nb::ndim<1>>> out) {
    const DecodeOptions options{choose(kIsas, isa, "instruction set"), choose(kPaths, path, "decoder path")};
    require(isa_available(options.isa), "this processor has no " + isa);
    const std::size_t n = table_ids.size();
    require(!out || out->size() == n,
            "out has " + to_string(out ? out->size() : 0) + " places for " + to_string(n) + " symbols");
    auto symbols = out ? *out : new_array<std::int16_t>({n});
    const Buffer bytes(segment);
    without_gil([&] {
        return decode_segment(*codebook.tables, table_ids.data(), n, lanes, bytes.bytes(), symbols.data(),
                              options);
    });
    return symbols;
}

std::vector<std::string> isas() {
    std::vector<std::string> available;
    for (const auto& [name, isa] : kIsas)
        if (isa != Isa::best && isa_available(isa)) available.emplace_back(name);
    return available;
}

std::uint32_t py_crc32c(nb::handle data, std::uint32_t crc) {
    const Buffer bytes(data);
    return released([&] { return crc32c(bytes.bytes(), crc); });
}

}  // namespace

void register_segment(nb::module_& module) {
    nb::class_<PyCodebook>(module, "Codebook",
                           "The frequency tables of one stream, checked and ready to code with.")
        .def("__init__", &make_codebook, "low"_a.noconvert(), "shift"_a.noconvert(), "sizes"_a.noconvert(),
             "frequencies"_a.noconvert(),
             "low: int16[T], shift: uint8[T], sizes: int32[T] (frequencies of each table, its escape's "
             "included),\n"
             "frequencies: uint16[sum of sizes], one table after the other, the escape's last.")
        .def("code_lengths", &py_code_lengths, "reach"_a,
             "Bits that symbols -reach .. reach cost with each table: float32 [tables, 2 * reach + 1].")
        .def("__len__", [](const PyCodebook& self) { return self.tables->size(); })
        .def_prop_ro("tables", &tables_of, "Of each table its lowest quotient, raw bits and frequencies.");
    module.def("encode_segment", &py_encode_segment, "codebook"_a, "table_ids"_a.noconvert(),
               "symbols"_a.noconvert(), "lanes"_a,
               "One segment of coded symbols: uint8[n] table ids, int16[n] symbols.");
    module.def("decode_segment", &py_decode_segment, "codebook"_a, "table_ids"_a.noconvert(), "segment"_a,
               "lanes"_a, "isa"_a = "best", "path"_a = "automatic", "out"_a.noconvert() = nb::none(),
               "The int16[n] symbols of one segment; into `out` where it is given.\n"
               "isa: best or one of isas(); path: automatic, lookup or search.");
    module.def("isas", &isas, "The instruction sets that the decoder can use here, slowest first.");
    module.def("crc32c", &py_crc32c, "data"_a, "crc"_a = 0,
               "CRC32C of the data; `crc` is that of what came before.");
}

}  // namespace nicrt::python
