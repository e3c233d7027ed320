// Frequency tables out of the fuzzer's bytes.
#pragma once

#include "input.hpp"
#include "nicrt/codebook.hpp"

namespace nicrt::fuzz {

/// Moves the sum of the frequencies towards what FORMAT.md asks for, where each keeps at least 1.
inline void balance(std::vector<std::uint16_t>& frequencies) {
    int surplus = -static_cast<int>(kProbabilityTotal);
    for (const std::uint16_t frequency : frequencies) surplus += frequency;
    for (std::uint16_t& frequency : frequencies) {
        const int most = static_cast<int>(kProbabilityTotal) - 1;
        const int next = std::clamp(int{frequency} - surplus, 1, most);
        surplus -= int{frequency} - next;
        frequency = static_cast<std::uint16_t>(next);
    }
}

/// Tables as a bundle could have them: most are valid, some break a rule.
class Tables {
public:
    explicit Tables(Input& in) {
        const unsigned count = in.byte() % 6 == 5 ? 1 + in.below(300) : 1 + in.below(4);
        frequencies_.resize(count);
        for (auto& frequencies : frequencies_) {
            const std::uint8_t how = in.byte();
            const unsigned size = (how & 1) != 0 ? in.below(300) : 2 + in.below(255);
            for (unsigned i = 0; i < size; ++i)
                frequencies.push_back((how & 2) != 0 ? in.word() : static_cast<std::uint16_t>(1 + in.byte()));
            if ((how & 4) == 0) balance(frequencies);
            const auto middle = static_cast<std::int16_t>(-static_cast<int>(size / 2));
            const auto low = (how & 8) != 0 ? static_cast<std::int16_t>(in.word()) : middle;
            const auto shift = static_cast<std::uint8_t>((how & 16) != 0 ? in.byte() : in.below(13));
            views_.push_back({low, shift, frequencies});
        }
    }

    /// Null where the tables break a rule.
    [[nodiscard]] std::shared_ptr<const Codebook> build() const {
        std::shared_ptr<const Codebook> codebook;
        const Status status = Codebook::build(views_, codebook);
        MUST(status.ok() || status.code() == Code::invalid_argument);
        return codebook;
    }

private:
    std::vector<std::vector<std::uint16_t>> frequencies_;
    std::vector<TableView> views_;
};

}  // namespace nicrt::fuzz
