#include "backends/onnxruntime_api.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string_view>

#include "backends/one_line.hpp"
#include "backends/shared_library.hpp"

namespace nicrt::engine {
namespace {

constexpr unsigned kLeastVersion = 19;  // the oldest that has been tried
static_assert(ORT_API_VERSION >= kLeastVersion);

/// Of "1.21.0": 21. 0 where it is none of that kind.
unsigned second_number(std::string_view version) {
    if (!version.starts_with("1.")) return 0;
    return static_cast<unsigned>(std::strtoul(std::string(version.substr(2)).c_str(), nullptr, 10));
}

}  // namespace

std::string OnnxRuntime::words_of(OrtStatus* status) const {
    const Owned<OrtStatus> owned(status, api->ReleaseStatus);
    return api->GetErrorMessage(status);
}

Status OnnxRuntime::check(OrtStatus* status) const {
    if (status == nullptr) return {};
    return {Code::internal, "ONNX Runtime failed: " + one_line(words_of(status))};
}

Status open_onnxruntime(const std::string& path, OnnxRuntime& out) {
    void* symbol = nullptr;
    NICRT_RETURN_IF_ERROR(open_symbol(path, "OrtGetApiBase", symbol));
    const OrtApiBase* const base = reinterpret_cast<const OrtApiBase* (*)()>(symbol)();
    out.version_text = one_line(base->GetVersionString());
    out.version = std::min<unsigned>(second_number(out.version_text), ORT_API_VERSION);
    if (out.version < kLeastVersion)  // asked for what it has not, it would write to standard error
        return {Code::unsupported, "ONNX Runtime " + out.version_text + " is too old: 1." +
                                       std::to_string(kLeastVersion) + " or later is needed"};
    out.api = base->GetApi(out.version);
    if (out.api == nullptr)
        return {Code::unsupported, "ONNX Runtime " + out.version_text + " does not offer version " +
                                       std::to_string(out.version) + " of its functions"};
    OrtEnv* environment = nullptr;
    NICRT_RETURN_IF_ERROR(out.check(out.api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "nicrt", &environment)));
    out.environment = std::shared_ptr<OrtEnv>(environment, out.api->ReleaseEnv);
    return {};
}

std::string processor() {
    std::string found;
    std::set<std::string> seen;  // one line for all processors of a kind
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const bool kept = line.starts_with("model name") || line.starts_with("flags") ||
                          line.starts_with("Features") || line.starts_with("CPU part");
        if (kept && seen.insert(line).second) found += (found.empty() ? "" : "; ") + line;
    }
    return found;
}

}  // namespace nicrt::engine
