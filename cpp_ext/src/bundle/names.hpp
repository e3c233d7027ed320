// Words that programs in a manifest use (docs/BUNDLE.md, section 8).
#pragma once

#include <cstdint>
#include <string_view>

namespace nicrt::bundle {

constexpr std::string_view kPicture = "@x", kSize = "@size", kRows = "@rows", kColumns = "@cols",
                           kByChannel = "channel";
constexpr std::int32_t kPictureChannels = 3;

[[nodiscard]] inline bool is_parameter(std::string_view source) { return source.starts_with('$'); }

/// `$p` or `$p[i]`: the parameter's name, and whether only its element for the round is meant.
struct ParameterSource {
    std::string_view name;
    bool of_round = false;

    explicit ParameterSource(std::string_view source)
        : name(source.substr(1)), of_round(name.ends_with("[i]")) {
        if (of_round) name.remove_suffix(3);
    }
};

}  // namespace nicrt::bundle
