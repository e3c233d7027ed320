// Bundles: a whole one, as files, packed and in memory, and what is refused of changed ones.
#include "nicrt/bundle.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <utility>

#include "bundle_build.hpp"
#include "check.hpp"
#include "nicrt/stream.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#endif

namespace {

using namespace nicrt;
using namespace nicrt::testing;
using bundle::Bundle;
using BundlePtr = std::shared_ptr<const Bundle>;

std::span<const std::uint8_t> span_of(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// One set of three channels, all of which have the group's one table.
void check_codebooks(const Bundle& opened) {
    std::shared_ptr<const Codebook> all;
    std::shared_ptr<const bundle::ChannelTables> tables, same;
    CHECK(opened.codebook("g", all).ok() && all->size() == 1);
    CHECK(opened.codebook("g", std::array{0}, tables).ok());
    CHECK(tables->codebook->size() == 1 && tables->channels == std::vector<std::uint8_t>(3, 0));
    CHECK(opened.codebook("g", std::array{0}, same).ok() && same == tables);
    CHECK(opened.codebook("g", std::array{0, 0, 0}, same).ok() && same->channels == tables->channels);
    CHECK(opened.codebook("h", all).code() == Code::invalid_argument);
    CHECK(opened.codebook("g", std::array{1}, tables).code() == Code::invalid_argument);
    CHECK(opened.codebook("g", std::array{-1}, tables).code() == Code::invalid_argument);
    CHECK(opened.codebook("g", std::array{0, 0}, tables).code() == Code::invalid_argument);
    CHECK(opened.codebook("g", std::span<const std::int32_t>{}, tables).code() == Code::invalid_argument);
    const std::vector<std::int32_t> symbols{-2, -1, 0, 1, 2, INT32_MIN};
    StreamCost cost;  // of each of four ids 2 bits, of an escape 16 more
    CHECK(cost_of_stream(*all, {tables->channels.data(), true}, symbols.data(), {3, 1, 2}, cost).ok());
    CHECK(cost.bits == 6 * 2 + 3 * 16 && cost.coded == 6);
    const std::vector<std::uint8_t> index{0, 1, 255, 0, 0, 1};
    CHECK(cost_of_stream(*all, {index.data(), false}, symbols.data(), {1, 2, 3}, cost).ok());
    CHECK(cost.bits == 3 * 2 + 2 * 16 && cost.coded == 3);
    std::vector<float> lengths;
    CHECK(code_lengths(*all, 2, lengths).ok());
    CHECK(lengths == std::vector<float>({18, 2, 2, 2, 18}));
}

void check_whole(const Bundle& opened) {
    std::string text;
    CHECK(bundle::write(opened.manifest(), text).ok());
    CHECK(text == kSmallManifest);
    CHECK(opened.manifest().name == "small" && opened.manifest().graphs.size() == 1);
    CHECK(opened.graph_hash("show") == "d790d92416f2844239d18137531d497673fac48a2970127ac97a1c5049171801");
    CHECK(opened.graph_hash("nothing").empty());
    std::vector<bundle::Tensor> tensors;
    CHECK(opened.weights("show", tensors).ok());
    CHECK(tensors.size() == 1 && tensors[0].name == "w" && tensors[0].data.size() == 36);
    std::vector<std::uint8_t> model;
    CHECK(opened.onnx("show", model).code() == Code::unsupported);
    CHECK(opened.weights("nothing", tensors).code() == Code::invalid_argument);
    CHECK(opened.check_parts().ok());
    check_codebooks(opened);
}

/// The files of a bundle, and how often each has been read.
struct Counted {
    bundle::Source files;
    std::map<std::string, int, std::less<>> reads;
};

bundle::Source counting(std::shared_ptr<Counted> counted) {
    bundle::Source source{"the test", std::move(counted)};
    source.size = [](const bundle::Source& of, std::string_view name, std::uint64_t& out) {
        const auto& counts = *static_cast<const Counted*>(of.context.get());
        return counts.files.size(counts.files, name, out);
    };
    source.read = [](const bundle::Source& of, std::string_view name, std::uint64_t start,
                     std::span<std::uint8_t> out) {
        auto& counts = *static_cast<Counted*>(of.context.get());
        ++counts.reads[std::string(name)];
        return counts.files.read(counts.files, name, start, out);
    };
    return source;
}

/// What is packed is what is checked: each file is read once, and damage is refused.
void check_packing() {
    const auto counted = std::make_shared<Counted>();
    Files files = small_files();
    counted->files = source_of(files);
    BundlePtr opened, again;
    CHECK(Bundle::open(counting(counted), opened).ok());
    counted->reads.clear();
    std::vector<std::uint8_t> file;
    CHECK(opened->packed(file).ok());
    CHECK((counted->reads == decltype(counted->reads){{"t", 1}, {"w", 1}}));
    CHECK(Bundle::open_packed(bundle::memory_source(file), again).ok());
    check_whole(*again);
    std::vector<std::uint8_t> same;
    CHECK(again->packed(same).ok() && same == file);
    std::uint64_t bytes = 0, decoder = 0;
    CHECK(opened->size_bytes(bytes).ok() && opened->decoder_bytes(decoder).ok());
    CHECK(bytes == kSmallManifest.size() + files["t"].size() + files["w"].size());
    CHECK(decoder == kSmallManifest.size() + files["t"].size() + 48);  // its one tensor, without a header
    files["w"].back() ^= 1;                                            // of what no graph uses
    counted->files = source_of(files);
    CHECK(opened->packed(file).ok());
    files["w"][files["w"].size() - 48] ^= 1;
    counted->files = source_of(files);
    CHECK(opened->packed(file).message().find("the test: w: tensor 'w' is not the manifest's") == 0);
}

/// A manifest without hashes and ids → the whole one.
void check_finishing() {
    std::string text(kSmallManifest), finished;
    for (const std::string_view digits :
         {"641c9c5a73b4400e6bf796a1e9b4fd0aab016eb0f32ef6679c7ac520f8bc5cd1",
          "f11b795f92bf122a0dd77e9bb6f220df1135441f88fdf3682f22552dea9247a8", "d0bd8bcffb9414d5", "637ee186"})
        text.replace(text.find(digits), digits.size(), std::string(digits.size(), '0'));
    CHECK(bundle::finish_manifest(source_of(small_files()), text, finished).ok());
    CHECK(finished == kSmallManifest);
    text.replace(text.find("\"in\":{\"y\":\"y\"}"), 14, "\"in\":{\"y\":\"z\"}");
    CHECK(bundle::finish_manifest(source_of(small_files()), text, finished).code() == Code::unsupported);
}

/// What a file says stays one short line in a message.
void check_messages() {
    const auto said = [](const std::string& from, const std::string& to) {
        Files files = small_files();
        std::string& manifest = files.find("manifest.json")->second;
        manifest.replace(manifest.find(from), from.size(), to);
        BundlePtr opened;
        return Bundle::open(source_of(std::move(files)), opened).message();
    };
    const std::string long_text(100'000, 'x');
    for (const auto& [from, to] : std::initializer_list<std::pair<std::string, std::string>>{
             {"\"name\":", "\"a\\nb" + long_text + "\":1,\"name\":"},
             {"\"color\":", "\"" + long_text + "\":1,\"" + long_text + "\":1,\"color\":"},
             {"\"in\":{\"y\":\"y\"}", "\"in\":{\"y\":\"a\\nb" + long_text + "\"}"},
             {"\"op\":\"entropy\"", "\"op\":\"a\\u0000b" + long_text + "\""}}) {
        const std::string message = said(from, to);
        CHECK(!message.empty() && message.size() < 500);
        CHECK(std::all_of(message.begin(), message.end(), [](unsigned char c) { return c >= 0x20; }));
    }
}

void check_sources() {
    BundlePtr opened;
    CHECK(Bundle::open(source_of(small_files()), opened).ok());
    check_whole(*opened);
    const std::string file = packed(small_files());
    CHECK(Bundle::open_packed(bundle::memory_source(span_of(file)), opened).ok());
    check_whole(*opened);
    CHECK(!Bundle::open(bundle::memory_source(span_of(file)), opened).ok());  // it has no manifest.json
}

#if defined(__unix__) || defined(__APPLE__)
void write(const std::filesystem::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

void check_files() {
    namespace fs = std::filesystem;
    std::string name = (fs::temp_directory_path() / "nicrt-bundle-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr);
    const fs::path folder(name);
    for (const auto& [file, content] : small_files()) write(folder / file, content);
    BundlePtr opened;
    CHECK(Bundle::open_path(name, opened).ok());
    check_whole(*opened);
    write(folder / "packed", packed(small_files()));
    CHECK(Bundle::open_path((folder / "packed").string(), opened).ok());
    check_whole(*opened);
    CHECK(Bundle::open_path((folder / "nothing").string(), opened).code() == Code::unsupported);
    fs::remove(folder / "t");
    fs::create_directory(folder / "t");
    const Status status = Bundle::open_path(name, opened);
    CHECK(status.code() == Code::unsupported && status.message().find("regular file") != std::string::npos);
    fs::remove_all(folder);
}
#endif

/// The whole bundle with one text of one file replaced.
void refused(std::string_view file, const std::string& from, const std::string& to, const std::string& said) {
    Files files = small_files();
    std::string& content = files.find(file)->second;
    const std::size_t place = content.find(from);
    CHECK(place != std::string::npos);
    content.replace(place, from.size(), to);
    BundlePtr opened;
    Status status = Bundle::open(source_of(std::move(files)), opened);
    if (status.ok()) status = opened->check_parts();
    CHECK(status.code() == Code::unsupported);
    if (status.message().find(said) == std::string::npos)
        std::fprintf(stderr, "%s\n", status.message().c_str());
    CHECK(status.message().find(said) != std::string::npos);
}

void check_refusals() {
    const auto manifest = [](const std::string& from, const std::string& to, const std::string& said) {
        refused("manifest.json", from, to, said);
    };
    manifest("\"bundle_format\":2", "\"bundle_format\":3,\"surprise\":1", "has format 3");
    manifest("\"bundle_format\":2", "\"bundle_format\":2,\"requires\":[\"b\",\"a\"]", "requires 'a'");
    manifest("\"bundle_format\":2", "\"bundle_format\":2.0", "Expected `int`, got `float`");
    manifest("\"name\"", "\"surprise\":1,\"name\"", "unknown field `surprise`");
    manifest("\"name\"", "\"color\":\"sRGB\",\"name\"", "'color' is there twice");
    manifest("\"name\":\"small\",", "", "missing required field `name`");
    manifest("small", "1small", "matching regex");
    manifest("\"file\":\"t\"", "\"file\":\"../t\"", "$.tables.file");
    manifest("\"file\":\"t\"", "\"file\":\"u\"", "no file u");
    manifest("\"align\":1", "\"align\":0", "Expected `int` >= 1 - at `$.variants.v.program.stages[0].align`");
    manifest("\"align\":1", "\"align\":18446744073709551616", "<= 1024");
    manifest("0.5", "1e400", "out of range");
    manifest("\"low\":0.0", "\"low\":-1", "beyond the range of its type");
    manifest("\"dims\":[\"n\",3", "\"dims\":[\"n\",4", "not for 4 channels");
    manifest("f11b", "f11c", "tables 'g' are not those");
    manifest("d0bd8bcffb9414d5", "d0bd8bcffb9414d6", "symbol id");
    manifest("637ee186", "637ee187", "picture id");
    manifest("\"slope\":0.5", "\"slope\":0.25", "picture id");
    manifest("\"show\":{\"op\":\"graph\",", "\"show\":{", "missing required field `op`");
    manifest("\"weights\":{\"file\":\"w\"}", "\"card\":null", "no file of weights");
    manifest("\"in\":{\"y\":\"y\"}", "\"in\":{\"y\":\"z\"}", "takes 'z', which is not there");
    refused("w", std::string("\0\0\x80\x3F", 4), std::string("\0\0\x81\x3F", 4), "not the manifest's");
    refused("w", "F32", "F16", "as large as it should be");
    refused("w", "[4,3,1,1]", "[2,6,1,1]", "smaller than what is used of it");
    refused("t", "\"dtype\":\"U8\"", "\"dtype\":\"I8\"", "'shift' is missing or of another type");
}

std::string deep_provenance(int levels) {
    std::string value = "1";
    for (int i = 1; i < levels; ++i) value = "[" + value + "]";
    return "{\"a\":" + value + "},\"weights\"";
}

void check_provenance() {
    Files files = small_files();
    std::string& manifest = files.find("manifest.json")->second;
    const std::string whole = manifest;
    const std::size_t place = whole.find("\"weights\"");
    BundlePtr opened;
    manifest = std::string(whole).replace(place, 9, "\"provenance\":" + deep_provenance(31));
    CHECK(Bundle::open(source_of(files), opened).ok());
    manifest = std::string(whole).replace(place, 9, "\"provenance\":" + deep_provenance(33));
    CHECK(Bundle::open(source_of(files), opened).message().find("deeper than 32") != std::string::npos);
}

/// Cut short or changed anywhere, the packed bundle is refused, or says the same.
void check_damage() {
    const std::string whole = packed(small_files());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        BundlePtr opened;
        const std::string cut = whole.substr(0, size);
        CHECK(Bundle::open_packed(bundle::memory_source(span_of(cut)), opened).code() == Code::unsupported);
    }
    for (std::size_t i = 0; i < whole.size(); ++i) {
        for (const int change : {1, 0x20, 0x80}) {
            std::string changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ change);
            BundlePtr opened;
            Status status = Bundle::open_packed(bundle::memory_source(span_of(changed)), opened);
            if (status.ok()) status = opened->check_parts();
            CHECK(status.ok() || status.code() == Code::unsupported);
            if (!status.ok()) continue;
            CHECK(opened->manifest().variants.find("v") == nullptr ||
                  opened->manifest().variants.find("v")->symbol_id == "d0bd8bcffb9414d5");
        }
    }
}

}  // namespace

int main() {
    check_sources();
    check_packing();
    check_finishing();
    check_messages();
#if defined(__unix__) || defined(__APPLE__)
    check_files();
#endif
    check_refusals();
    check_provenance();
    check_damage();
}
