// Codec bundles.
#include "nicrt/bundle.hpp"

#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
namespace {

using namespace nb::literals;

std::string text_of(const nb::bytes& text) { return {text.c_str(), text.size()}; }

#ifdef NICRT_HAS_FILES
/// A path as the system has it, which need not be UTF-8.
std::string to_path(const nb::str& path) {
    const auto bytes = nb::steal<nb::bytes>(PyUnicode_EncodeFSDefault(path.ptr()));
    if (!bytes.is_valid()) throw nb::python_error();
    return text_of(bytes);
}

PyBundle open(const nb::str& given) {
    PyBundle result;
    const std::string path = to_path(given);
    without_gil([&] { return bundle::Bundle::open_path(path, result.bundle); });
    return result;
}
#endif

PyBundle of_bytes(nb::handle data) {
    const Buffer buffer(data);
    const auto bytes = buffer.bytes();
    const auto keeper = std::make_shared<std::vector<std::uint8_t>>(bytes.begin(), bytes.end());
    PyBundle result;
    without_gil(
        [&] { return bundle::Bundle::open_packed(bundle::memory_source(*keeper, keeper), result.bundle); });
    return result;
}

nb::bytes bytes_of(const std::string& text) { return nb::bytes(text.data(), text.size()); }

nb::bytes manifest_of(const PyBundle& self) {
    std::string text;
    without_gil([&] { return bundle::write(self.bundle->manifest(), text); });
    return bytes_of(text);
}

#ifdef NICRT_HAS_FILES
/// nicrt._core.Listing: what finds a bundle.
struct PyListing {
    bundle::Manifest manifest;
};

PyListing read_listing(const nb::str& given) {
    PyListing result;
    const std::string path = to_path(given);
    without_gil([&] { return bundle::read_manifest_of(path, result.manifest); });
    return result;
}

std::vector<std::string_view> symbol_ids_of(const PyListing& self) {
    std::vector<std::string_view> ids;
    for (const auto& [name, variant] : self.manifest.variants) ids.push_back(variant.symbol_id);
    return ids;
}

nb::bytes finish_manifest(const nb::str& given, const nb::bytes& text) {
    std::string finished, unfinished = text_of(text);
    const std::string folder = to_path(given);
    without_gil([&] {
        return bundle::finish_manifest(bundle::folder_source(folder), std::move(unfinished), finished);
    });
    return bytes_of(finished);
}
#endif

std::string check_graph(std::string_view name, const nb::bytes& text) {
    std::string entry = text_of(text), hash;
    without_gil([&] { return bundle::check_graph_entry(name, std::move(entry), hash); });
    return hash;
}

template <auto Method>
std::uint64_t count_of(const PyBundle& self) {
    std::uint64_t count = 0;
    without_gil([&] { return (*self.bundle.*Method)(count); });
    return count;
}

nb::bytes packed_of(const PyBundle& self) {
    std::vector<std::uint8_t> file;
    without_gil([&] { return self.bundle->packed(file); });
    return to_bytes(file);
}

nb::bytes onnx_of(const PyBundle& self, std::string_view graph) {
    std::vector<std::uint8_t> model;
    without_gil([&] { return self.bundle->onnx(graph, model); });
    return to_bytes(model);
}

nb::object array_of(bundle::Tensor tensor) {
    const std::vector<std::size_t> shape(tensor.shape.begin(), tensor.shape.end());
    auto* const data = new std::vector<std::uint8_t>(std::move(tensor.data));
    nb::capsule owner(data, [](void* p) noexcept { delete static_cast<std::vector<std::uint8_t>*>(p); });
    return nb::cast(nb::ndarray<nb::numpy>(data->data(), shape.size(), shape.data(), owner, nullptr,
                                           type_of(tensor.dtype)));
}

nb::dict weights_of(const PyBundle& self, std::string_view graph) {
    std::vector<bundle::Tensor> tensors;
    without_gil([&] { return self.bundle->weights(graph, tensors); });
    nb::dict result;
    for (bundle::Tensor& tensor : tensors) {
        const std::string_view name = tensor.name;
        result[nb::cast(name)] = array_of(std::move(tensor));
    }
    return result;
}

PyCodebook codebook_of(const PyBundle& self, std::string_view group) {
    PyCodebook result;
    without_gil([&] { return self.bundle->codebook(group, result.tables); });
    return result;
}

nb::tuple channel_codebook_of(const PyBundle& self, std::string_view group,
                              const std::vector<std::int32_t>& sets) {
    std::shared_ptr<const bundle::ChannelTables> tables;
    without_gil([&] { return self.bundle->codebook(group, sets, tables); });
    const auto channels = new_array<std::uint8_t>({tables->channels.size()});
    std::copy(tables->channels.begin(), tables->channels.end(), channels.data());
    return nb::make_tuple(PyCodebook{tables->codebook}, channels);
}

nb::object card_of(const PyBundle& self) {
    std::string text;
    without_gil([&] { return self.bundle->card(text); });
    if (!self.bundle->manifest().card) return nb::none();
    return nb::cast(text);
}

}  // namespace

void register_bundle(nb::module_& module) {
    nb::class_<PyBundle>(module, "Bundle", "A codec bundle whose manifest, tables and ids have been checked.")
#ifdef NICRT_HAS_FILES
        .def_static(
            "open", &open, "path"_a,
            "The bundle in a folder or a packed file. Raises UnsupportedError for what is none, or wrong.")
#endif
        .def_static("of_bytes", &of_bytes, "data"_a, "A packed bundle in memory. Raises as `open` does.")
        .def_prop_ro("manifest", &manifest_of,
                     "The manifest, written again from what was read and checked: JSON.")
        .def(
            "graph_hash",
            [](const PyBundle& self, std::string_view graph) { return self.bundle->graph_hash(graph); },
            "graph"_a, "Hex SHA-256 over what a graph computes.")
        .def("onnx", &onnx_of, "graph"_a, "The ONNX model of a graph, its hash checked, written again.")
        .def("weights", &weights_of, "graph"_a,
             "What a native form uses of the stored tensors, hashes checked.")
        .def("codebook", &codebook_of, "group"_a, "All tables of a group, in its order.")
        .def("channel_codebook", &channel_codebook_of, "group"_a, "sets"_a,
             "The distinct tables of one set, or of each channel's own, and the number of each channel's "
             "among "
             "them:\nuint8 [channels]. sets: one number, or one for each channel.")
        .def("card", &card_of, "The model card; None where there is none.")
        .def(
            "check_parts",
            [](const PyBundle& self) { without_gil([&] { return self.bundle->check_parts(); }); },
            "Reads every part.")
        .def_prop_ro("size_bytes", &count_of<&bundle::Bundle::size_bytes>, "Of all files.")
        .def_prop_ro("decoder_bytes", &count_of<&bundle::Bundle::decoder_bytes>, "Of what decoding reads.")
        .def("packed", &packed_of, "The bundle in one file, all of whose parts have been checked.");
#ifdef NICRT_HAS_FILES
    nb::class_<PyListing>(module, "Listing",
                          "What finds a bundle: of its manifest, which alone has been read.")
        .def_static("read", &read_listing, "path"_a, "Of a folder or a packed file. Raises UnsupportedError.")
        .def_prop_ro("name", [](const PyListing& self) { return self.manifest.name; })
        .def_prop_ro("summary", [](const PyListing& self) { return self.manifest.summary; })
        .def_prop_ro("symbol_ids", &symbol_ids_of, "Of all variants.")
        .def_prop_ro(
            "files", [](const PyListing& self) { return bundle::files_of(self.manifest); },
            "Every file besides the manifest, sorted.");
    module.def("finish_manifest", &finish_manifest, "folder"_a, "text"_a,
               "A manifest whose hashes and ids say nothing yet → the one of the files in the folder.");
#endif
    module.def("check_graph", &check_graph, "name"_a, "text"_a,
               "Checks a graph's entry in a manifest, JSON. Hex SHA-256 over what it computes.");
}

}  // namespace nicrt::python
