// An opened ONNX Runtime: its functions, and its objects freed when their time is over.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "nicrt/status.hpp"

namespace nicrt::engine {

/// An object of the library's, freed by one of its functions.
template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

/// Functions of the oldest version that this needs are in every later one, at the same places.
struct OnnxRuntime {
    const OrtApi* api = nullptr;
    unsigned version = 0;  ///< of `api`: the second number of the library's version, or the header's
    std::string version_text;
    std::shared_ptr<OrtEnv> environment;

    /// Frees `status`. Ok for nullptr, else `internal` with the library's words.
    [[nodiscard]] Status check(OrtStatus* status) const;

    /// The library's words. Frees `status`.
    [[nodiscard]] std::string words_of(OrtStatus* status) const;
};

/// Opens the library at `path` for the rest of the process. unsupported: it is not ONNX Runtime, or an older
/// one.
Status open_onnxruntime(const std::string& path, OnnxRuntime& out);

/// Model and features of the processor: the library picks its kernels by them.
[[nodiscard]] std::string processor();

}  // namespace nicrt::engine
