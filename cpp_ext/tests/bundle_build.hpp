// A bundle that fits in a page, for tests without Python, which computed its hashes and ids.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nicrt/bundle.hpp"

namespace nicrt::testing {

using Files = std::map<std::string, std::string, std::less<>>;

inline constexpr std::string_view kSmallManifest =
    R"({"bundle_format":2,"name":"small","summary":"größe","license":"Apache-2.0","color":"sRGB","graphs":{"show":{)"
    R"("inputs":{"y":{"dtype":"int32","dims":["n",3,"h","w"]}},"outputs":{"picture":{"dtype":"uint8","dims":["n","h",)"
    R"("w",3]}},"native":{"tensors":{"w":{"dtype":"float32","shape":[3,3,1,1],"sha256":)"
    R"("641c9c5a73b4400e6bf796a1e9b4fd0aab016eb0f32ef6679c7ac520f8bc5cd1"}},"operations":[{"op":"transposed_chain",)"
    R"("out":"picture","terms":[{"value":"y"}],"layers":[{"weight":"w","slope":0.5}],"picture":{"low":0.0,"high":255.0)"
    R"(}}]}}},"tables":{"file":"t","groups":{"g":"f11b795f92bf122a0dd77e9bb6f220df1135441f88fdf3682f22552dea9247a8"}},)"
    R"("variants":{"v":{"symbol_id":"d0bd8bcffb9414d5","picture_id":"637ee186","program":{"parameters":[],"stages":[{)"
    R"("align":1,"steps":[{"op":"entropy","out":"y","channels":3,"stride":1,"tables":"g","by":"channel"}],"show":{)"
    R"("op":"graph","graph":"show","in":{"y":"y"},"out":{"picture":"picture"}}}]}}},"quality":[{"quality":0.0,)"
    R"("variant":"v"}],"weights":{"file":"w"}})";

/// The header's length, the header, the data.
inline std::string safetensors(std::string_view header, std::string_view data) {
    std::string file(8, '\0');
    const std::uint64_t size = header.size();
    std::memcpy(file.data(), &size, 8);
    return file.append(header).append(data);
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// 4 x 3 weights, of which 3 x 3, the identity, are used.
inline std::string small_weights() {
    std::vector<float> values(12, 0);
    values[0] = values[4] = values[8] = 1;
    return safetensors(R"({"w":{"dtype":"F32","shape":[4,3,1,1],"data_offsets":[0,48]}})", bytes_of(values));
}

inline std::string small_tables() {
    return safetensors(R"({"g.channel":{"dtype":"I32","shape":[1,3],"data_offsets":[0,12]},)"
                       R"("g.size":{"dtype":"I32","shape":[1],"data_offsets":[12,16]},)"
                       R"("g.low":{"dtype":"I16","shape":[1],"data_offsets":[16,18]},)"
                       R"("g.frequency":{"dtype":"U16","shape":[4],"data_offsets":[18,26]},)"
                       R"("g.shift":{"dtype":"U8","shape":[1],"data_offsets":[26,27]}})",
                       bytes_of<std::int32_t>({0, 0, 0, 4}) + bytes_of<std::int16_t>({-1}) +
                           bytes_of<std::uint16_t>({1024, 1024, 1024, 1024}) + bytes_of<std::uint8_t>({0}));
}

inline Files small_files() {
    return {{"manifest.json", std::string(kSmallManifest)}, {"t", small_tables()}, {"w", small_weights()}};
}

inline bundle::Source source_of(Files files) {
    const auto find = [](const bundle::Source& source, std::string_view name,
                         const std::string*& out) -> Status {
        const auto& all = *static_cast<const Files*>(source.context.get());
        const auto found = all.find(name);
        if (found == all.end()) return {Code::unsupported, "there is no file " + std::string(name)};
        out = &found->second;
        return {};
    };
    static constexpr auto kFind = find;
    bundle::Source source;
    source.place = "the test";
    source.context = std::make_shared<Files>(std::move(files));
    source.size = [](const bundle::Source& of, std::string_view name, std::uint64_t& out) -> Status {
        const std::string* file = nullptr;
        NICRT_RETURN_IF_ERROR(kFind(of, name, file));
        out = file->size();
        return {};
    };
    source.read = [](const bundle::Source& of, std::string_view name, std::uint64_t start,
                     std::span<std::uint8_t> out) -> Status {
        const std::string* file = nullptr;
        NICRT_RETURN_IF_ERROR(kFind(of, name, file));
        if (start > file->size() || out.size() > file->size() - start)
            return {Code::unsupported, "it ends too early"};
        std::memcpy(out.data(), file->data() + start, out.size());
        return {};
    };
    return source;
}

/// The same in one file.
inline std::string packed(const Files& files) {
    std::string manifest, header, data;
    for (const auto& [name, content] : files) {
        if (name == "manifest.json") {
            for (const char c : content) manifest.append(c == '"' || c == '\\' ? "\\" : "").append(1, c);
            continue;
        }
        header.append(",\"")
            .append(name)
            .append(R"(":{"dtype":"U8","shape":[)")
            .append(std::to_string(content.size()));
        header.append(R"(],"data_offsets":[)").append(std::to_string(data.size())).append(",");
        data += content;
        header.append(std::to_string(data.size())).append("]}");
    }
    return safetensors(R"({"__metadata__":{"nicrt.manifest":")" + manifest + "\"}" + header + "}", data);
}

}  // namespace nicrt::testing
