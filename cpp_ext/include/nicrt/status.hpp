// Status of every fallible call: the library throws nothing of its own.
#pragma once

#include <new>
#include <string>
#include <utility>

namespace nicrt {

/// Kinds of failure, apart because a caller reacts differently to each. The values are part of the C ABI.
enum class Code : int {
    ok = 0,
    truncated = 1,         ///< more input may help
    corrupt = 2,           ///< the bytes are damaged
    unsupported = 3,       ///< not a .nic file, or one of a later version
    limit = 4,             ///< larger than a limit the caller can raise
    wrong_bundle = 5,      ///< made with another codec bundle
    invalid_argument = 6,  ///< the caller's mistake, never the file's
    internal = 7,          ///< a defect in nicrt
    cancelled = 8,         ///< the caller has ended the work
};

class [[nodiscard]] Status {
public:
    Status() = default;
    Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

    [[nodiscard]] bool ok() const { return code_ == Code::ok; }
    [[nodiscard]] Code code() const { return code_; }
    [[nodiscard]] const std::string& message() const { return message_; }

private:
    Code code_ = Code::ok;
    std::string message_;
};

inline Status corrupt(std::string message) { return {Code::corrupt, std::move(message)}; }
inline Status truncated(std::string message) { return {Code::truncated, std::move(message)}; }
inline Status invalid_argument(std::string message) { return {Code::invalid_argument, std::move(message)}; }

/// `limit`: this machine has too little memory for what was asked. Few words where there is no room for more.
inline Status out_of_memory() noexcept {
    try {
        return {Code::limit, "not enough memory on this machine"};
    } catch (const std::bad_alloc&) {
        return {Code::limit, "out of memory"};  // short enough to need no memory of its own
    }
}

}  // namespace nicrt

/// Returns from the enclosing function when `expression` is not ok.
#define NICRT_RETURN_IF_ERROR(expression)                                          \
    do {                                                                           \
        if (::nicrt::Status status_ = (expression); !status_.ok()) return status_; \
    } while (false)
