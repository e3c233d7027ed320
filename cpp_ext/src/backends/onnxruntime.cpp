#include "nicrt/onnxruntime.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "backends/one_line.hpp"
#include "backends/onnxruntime_api.hpp"
#include "backends/turns.hpp"
#include "backends/watch.hpp"
#include "fork.hpp"

namespace nicrt::engine {
namespace {

constexpr std::uint64_t kMostMemoryBytes = std::uint64_t{1} << 48;
constexpr std::uint64_t kStoredBytesFactor =
    8;  // for a model's own bytes: int8 becomes float32, packed once more
constexpr std::uint64_t kSpareBytes = 16 << 20;  // of what is taken in blocks

constexpr std::array<std::pair<const char*, const char*>, 5> kSessionConfig{{
    // never its own format, which the same bytes could be in as well
    {"session.load_model_format", "ONNX"},
    // of one constant that is computed when a model is loaded; all together are bounded by `onnx::read`
    {"optimization.constant_folding_max_output_size_in_bytes", "16777216"},
    // spinning threads steal the core from the entropy coder, and from other jobs
    {"session.intra_op.allow_spinning", "0"},
    {"session.inter_op.allow_spinning", "0"},
    {"session.use_env_allocators", "1"},
}};

// What its messages have in them: it says in words alone that memory ran out.
constexpr std::string_view kFull = "Available memory of";  // an arena may not grow as far as it would have to
constexpr std::array<std::string_view, 2> kTooLarge{"would require more than",
                                                    "Integer overflow"};  // for any arena
constexpr std::array<std::string_view, 3> kOutOfMemory{"bad_alloc", "Failed to allocate memory", "BFCArena"};

template <class Words>
bool has_any(std::string_view text, const Words& words) {
    for (const std::string_view some : words)
        if (text.find(some) != std::string_view::npos) return true;
    return false;
}

ONNXTensorElementDataType element_of(bundle::Element dtype) {
    switch (dtype) {
        case bundle::Element::float32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
        case bundle::Element::float16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
        case bundle::Element::int64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
        case bundle::Element::int32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
        case bundle::Element::int16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16;
        case bundle::Element::int8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
        case bundle::Element::uint16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16;
        case bundle::Element::uint8: break;
    }
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
}

/// What a failed run is for the caller.
Status failure(const std::string& words, std::uint64_t memory_bytes) {
    if (words.find(kFull) != std::string::npos || has_any(words, kTooLarge))
        return {Code::limit, "a graph of the bundle needs more than the limit of " +
                                 std::to_string(memory_bytes >> 20) + " MiB"};
    if (has_any(words, kOutOfMemory)) return out_of_memory();
    return {Code::internal, "ONNX Runtime failed: " + one_line(words)};
}

Status no_thread() noexcept {
    try {
        return {Code::limit, "this machine has no thread left that could watch over a graph"};
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
}

/// Tensors of a run: the library's view of arrays, which are not copied.
class Values {
public:
    Values(const OnnxRuntime& library, const OrtMemoryInfo* memory) : library_(library), memory_(memory) {}

    Status add(std::string_view port, const Array& array) {
        OrtValue* value = nullptr;
        NICRT_RETURN_IF_ERROR(library_.check(library_.api->CreateTensorWithDataAsOrtValue(
            memory_, array.data, array.bytes(), array.shape.data(), array.shape.size(),
            element_of(array.dtype), &value)));
        owned_.emplace_back(value, library_.api->ReleaseValue);
        values_.push_back(value);
        names_.emplace_back(port);
        return {};
    }

    [[nodiscard]] std::size_t size() const { return values_.size(); }
    [[nodiscard]] OrtValue** data() { return values_.data(); }
    [[nodiscard]] std::vector<const char*> names() const {
        std::vector<const char*> pointers;
        for (const std::string& name : names_) pointers.push_back(name.c_str());
        return pointers;
    }

private:
    const OnnxRuntime& library_;
    const OrtMemoryInfo* memory_;
    std::vector<Owned<OrtValue>> owned_;
    std::vector<OrtValue*> values_;
    std::vector<std::string> names_;
};

class Session final : public Executable {
public:
    Session(OnnxRuntime library, Owned<OrtSession> session, Owned<OrtMemoryInfo> memory,
            const OnnxRuntimeOptions& options)
        : library_(std::move(library)),
          session_(std::move(session)),
          memory_(std::move(memory)),
          memory_bytes_(options.memory_bytes),
          has_threads_(options.threads > 1) {}

    Status run(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const override {
        try {
            NICRT_RETURN_IF_ERROR(work.check());
            if (has_threads_ && generation_ != fork_generation())  // it would wait for them for ever
                return invalid_argument(
                    "ONNX Runtime's threads are not in this child of a fork(): load graphs there");
            Values in(library_, memory_.get()), out(library_, memory_.get());
            for (const Named& input : inputs) NICRT_RETURN_IF_ERROR(in.add(input.port, input.array));
            for (Named& output : outputs) {
                const std::vector<std::int64_t> shape = output.array.shape;
                NICRT_RETURN_IF_ERROR(Array::make(output.array.dtype, shape, work.budget, output.array));
                NICRT_RETURN_IF_ERROR(out.add(output.port, output.array));
            }
            return turns_.run(work.control,
                              [&](bool& is_full) { return run(in, out, work.control, is_full); });
        } catch (const std::bad_alloc&) {
            return out_of_memory();
        }
    }

private:
    Status run(Values& in, Values& out, const Control* control, bool& is_full) const noexcept {
        try {
            const OrtApi& api = *library_.api;
            OrtRunOptions* options = nullptr;
            NICRT_RETURN_IF_ERROR(library_.check(api.CreateRunOptions(&options)));
            const Owned<OrtRunOptions> owned(options, api.ReleaseRunOptions);
            const std::vector<const char*> ins = in.names(), outs = out.names();
            bool stopped = false;
            OrtStatus* failed = nullptr;
            {
                Watch watch(control, [&] { drop(api.RunOptionsSetTerminate(options)); });
                failed = api.Run(session_.get(), options, ins.data(), in.data(), in.size(), outs.data(),
                                 out.size(), out.data());
                stopped = watch.end();
            }
            if (failed == nullptr) return {};
            const std::string words = library_.words_of(failed);
            if (stopped) return control->check();
            is_full = words.find(kFull) != std::string::npos;
            return failure(words, memory_bytes_);
        } catch (const std::system_error&) {
            return no_thread();
        } catch (const std::bad_alloc&) {
            return out_of_memory();
        }
    }

    void drop(OrtStatus* status) const { library_.api->ReleaseStatus(status); }

    OnnxRuntime library_;
    Owned<OrtSession> session_;  // freed before what it is made of
    Owned<OrtMemoryInfo> memory_;
    std::uint64_t memory_bytes_;
    bool has_threads_;
    unsigned generation_ = fork_generation();
    mutable Turns turns_;
};

/// An arena that the session made next takes for its own. The library has one place for an allocator that
/// sessions share; a session takes what is there when it is made, and keeps it.
class OwnArena {
public:
    explicit OwnArena(const OnnxRuntime& library) : library_(library) {}
    OwnArena(const OwnArena&) = delete;
    OwnArena& operator=(const OwnArena&) = delete;
    ~OwnArena() {
        if (is_put_)
            library_.api->ReleaseStatus(
                library_.api->UnregisterAllocator(library_.environment.get(), memory_.get()));
    }

    Status put(std::uint64_t most_bytes) {
        const OrtApi& api = *library_.api;
        OrtMemoryInfo* memory = nullptr;
        NICRT_RETURN_IF_ERROR(
            library_.check(api.CreateMemoryInfo("Cpu", OrtArenaAllocator, 0, OrtMemTypeDefault, &memory)));
        memory_.reset(memory);
        const char* const key = "max_mem";
        const std::size_t value = static_cast<std::size_t>(std::min<std::uint64_t>(most_bytes, SIZE_MAX));
        OrtArenaCfg* arena = nullptr;
        NICRT_RETURN_IF_ERROR(library_.check(api.CreateArenaCfgV2(&key, &value, 1, &arena)));
        const Owned<OrtArenaCfg> owned(arena, api.ReleaseArenaCfg);
        NICRT_RETURN_IF_ERROR(
            library_.check(api.CreateAndRegisterAllocator(library_.environment.get(), memory, arena)));
        is_put_ = true;
        return {};
    }

private:
    const OnnxRuntime& library_;
    Owned<OrtMemoryInfo> memory_{nullptr, library_.api->ReleaseMemoryInfo};
    bool is_put_ = false;
};

class OnnxRuntimeBackend final : public Backend {
public:
    OnnxRuntimeBackend(OnnxRuntime library, OnnxRuntimeOptions options)
        : library_(std::move(library)), options_(std::move(options)) {
        options_.memory_bytes = std::min(options_.memory_bytes, kMostMemoryBytes);
        identity_ = "onnxruntime " + library_.version_text + " cpu all " + processor();
    }

    [[nodiscard]] std::string_view name() const override { return "onnxruntime"; }
    [[nodiscard]] std::string identity() const override { return identity_; }

    Status load(const bundle::Bundle& bundle, std::string_view graph, std::shared_ptr<const Executable>& out,
                bool& other_kind) const override {
        try {
            const bundle::Graph* const entry = bundle.manifest().graphs.find(graph);
            if (entry == nullptr) return invalid_argument("the bundle has no graph of this name");
            other_kind = !entry->onnx;
            if (other_kind) return {Code::unsupported, "it has no ONNX form"};
            std::vector<std::uint8_t> model;  // with the manifest's ports, which `Bundle::onnx` sees to
            NICRT_RETURN_IF_ERROR(bundle.onnx(graph, model));
            Owned<OrtSession> session(nullptr, library_.api->ReleaseSession);
            NICRT_RETURN_IF_ERROR(open(model, session));
            OrtMemoryInfo* memory = nullptr;
            NICRT_RETURN_IF_ERROR(library_.check(
                library_.api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory)));
            Owned<OrtMemoryInfo> owned(memory, library_.api->ReleaseMemoryInfo);
            out = std::make_shared<Session>(library_, std::move(session), std::move(owned), options_);
            return {};
        } catch (const std::bad_alloc&) {
            return out_of_memory();
        } catch (const std::system_error&) {
            return no_thread();
        }
    }

private:
    Status set(OrtSessionOptions* options) const {
        const OrtApi& api = *library_.api;
        NICRT_RETURN_IF_ERROR(
            library_.check(api.SetIntraOpNumThreads(options, static_cast<int>(options_.threads))));
        NICRT_RETURN_IF_ERROR(library_.check(api.SetInterOpNumThreads(options, 1)));
        NICRT_RETURN_IF_ERROR(
            library_.check(api.SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_FATAL)));
        NICRT_RETURN_IF_ERROR(library_.check(api.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL)));
        for (const auto& [key, value] : kSessionConfig)
            NICRT_RETURN_IF_ERROR(library_.check(api.AddSessionConfigEntry(options, key, value)));
        return {};
    }

    /// A session with an arena of its own.
    Status open(const std::vector<std::uint8_t>& model, Owned<OrtSession>& out) const {
        static std::mutex making;  // there is one place for an arena
        const OrtApi& api = *library_.api;
        OrtSessionOptions* options = nullptr;
        NICRT_RETURN_IF_ERROR(library_.check(api.CreateSessionOptions(&options)));
        const Owned<OrtSessionOptions> owned(options, api.ReleaseSessionOptions);
        NICRT_RETURN_IF_ERROR(set(options));
        const std::lock_guard lock(making);
        OwnArena arena(library_);
        NICRT_RETURN_IF_ERROR(
            arena.put(options_.memory_bytes + kStoredBytesFactor * model.size() + kSpareBytes));
        OrtSession* session = nullptr;
        const Control control(Control::Clock::now() +
                              std::chrono::duration_cast<Control::Clock::duration>(
                                  std::chrono::duration<double>(options_.load_seconds)));
        OrtStatus* const failed = create(control, model, options, session);
        out.reset(session);
        const std::string words = failed == nullptr ? std::string() : library_.words_of(failed);
        if (!control.check().ok()) return too_long();
        if (failed == nullptr) return {};
        if (words.find(kFull) != std::string::npos || has_any(words, kTooLarge) ||
            has_any(words, kOutOfMemory))
            return failure(words, options_.memory_bytes);
        return {Code::unsupported, "ONNX Runtime cannot load it: " + one_line(words)};
    }

    OrtStatus* create(const Control& control, const std::vector<std::uint8_t>& model,
                      OrtSessionOptions* options, OrtSession*& session) const {
        const OrtApi& api = *library_.api;
#if ORT_API_VERSION >= 22
        const auto stop = [&] {
            api.ReleaseStatus(api.SessionOptionsSetLoadCancellationFlag(options, true));
        };
        Watch watch(library_.version >= 22 ? &control : nullptr, stop);
#else
        static_cast<void>(control);
#endif
        return api.CreateSessionFromArray(library_.environment.get(), model.data(), model.size(), options,
                                          &session);
    }

    [[nodiscard]] Status too_long() const {
        return {Code::limit, "a graph of the bundle takes more than " +
                                 std::to_string(std::lround(options_.load_seconds)) + " s to load"};
    }

    OnnxRuntime library_;
    OnnxRuntimeOptions options_;
    std::string identity_;
};

Status check_options(const OnnxRuntimeOptions& options) {
    if (options.library.find('/') == std::string::npos)
        return invalid_argument("the path of ONNX Runtime's library has no folder: '" +
                                one_line(options.library) + "' would be searched for");
    if (options.threads < 1 || options.threads > kMaxThreads)
        return invalid_argument("ONNX Runtime runs a graph on 1 to " + std::to_string(kMaxThreads) +
                                " threads");
    if (!(options.load_seconds > 0 && options.load_seconds < 1e9))
        return invalid_argument("the time for loading a graph is not a positive number of seconds");
    const char* const disabled = std::getenv("ORT_DISABLE_TELEMETRY");
    if (!options.allow_telemetry && (disabled == nullptr || std::string_view(disabled) != "1"))
        return invalid_argument(
            "ONNX Runtime sends telemetry unless ORT_DISABLE_TELEMETRY=1 is in the environment: set it, or "
            "allow "
            "telemetry");
    return {};
}

}  // namespace

Status make_onnxruntime_backend(OnnxRuntimeOptions options, std::shared_ptr<const Backend>& out) {
    try {
        NICRT_RETURN_IF_ERROR(check_options(options));
        OnnxRuntime library;
        NICRT_RETURN_IF_ERROR(open_onnxruntime(options.library, library));
        out = std::make_shared<OnnxRuntimeBackend>(std::move(library), std::move(options));
        return {};
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    }
}

}  // namespace nicrt::engine
