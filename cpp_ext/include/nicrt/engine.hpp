// Runs plans: the same steps in the same order for encoding and decoding. The engine knows tensors, graphs
// and streams, and no model.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nicrt/bundle.hpp"
#include "nicrt/container.hpp"
#include "nicrt/integer_network.hpp"
#include "nicrt/native.hpp"
#include "nicrt/plan.hpp"
#include "nicrt/runner.hpp"
#include "nicrt/status.hpp"
#include "nicrt/stream.hpp"

namespace nicrt::engine {

/// Values in memory, row by row without gaps. `keeper` frees them and gives their bytes back to the budget.
struct Array {
    bundle::Element dtype = bundle::Element::float32;
    std::vector<std::int64_t> shape;
    std::shared_ptr<void> keeper;
    std::uint8_t* data = nullptr;

    [[nodiscard]] std::uint64_t bytes() const;

    template <class Value>
    [[nodiscard]] Value* as() const {
        return reinterpret_cast<Value*>(data);
    }

    /// Memory for values of this type and shape, not set to anything. limit: beyond the budget or the
    /// machine.
    static Status make(bundle::Element dtype, std::span<const std::int64_t> shape, Budget* budget,
                       Array& out);

    /// Counts memory that somebody else has made for as long as it is kept. limit: beyond the budget.
    Status charge(Budget* budget);
};

struct Named {
    std::string_view port;
    Array array;
};

/// One graph, ready to run from any thread.
class Executable {
public:
    virtual ~Executable() = default;

    /// Bytes per pixel that a run needs besides inputs and outputs; nothing where that is what the manifest
    /// says.
    [[nodiscard]] virtual std::optional<double> workspace_bytes_per_pixel() const { return std::nullopt; }

    /// inputs: every port's. outputs: `port`, dtype and shape are what is wanted; `data` and `keeper` are set
    /// here, to memory of `Array::make` or to what a host has made. An array of another type or shape is
    /// refused by who has called. No lock is held, and a host's function is called on the calling thread.
    virtual Status run(std::span<const Named> inputs, std::span<Named> outputs, const Work& work) const = 0;
};

/// Who runs graphs.
class Backend {
public:
    virtual ~Backend() = default;
    [[nodiscard]] virtual std::string_view name() const = 0;

    /// What decides its arithmetic (library, version, device, processor): a proof holds for one identity.
    [[nodiscard]] virtual std::string identity() const = 0;

    /// Whether its exact graphs are proven when the library is built, and need not be again when they are
    /// loaded.
    [[nodiscard]] virtual bool proven_when_built() const { return false; }

    /// unsupported: it cannot run the graph; with `other_kind` it is not meant to, which is no fallback to
    /// report. Any other error ends the search for a backend.
    virtual Status load(const bundle::Bundle& bundle, std::string_view graph,
                        std::shared_ptr<const Executable>& out, bool& other_kind) const = 0;
};

/// Functions of the host language in the place of a backend.
struct Callbacks {
    std::string name;
    std::function<std::string()> identity;
    std::function<Status(std::string_view graph, std::shared_ptr<const Executable>& out, bool& other_kind)>
        load;
    bool proves = false;  ///< the host proves exact graphs itself when it loads them
};

[[nodiscard]] std::shared_ptr<const Backend> make_callback_backend(Callbacks callbacks);

/// Our own kernels. `best`: what NICRT_ISA and the processor allow; the rest is for tests and benchmarks.
struct NativeOptions {
    native::Arithmetic arithmetic = native::Arithmetic::best;  ///< of chains
    native::IntegerIsa isa = native::IntegerIsa::best;         ///< of networks of integers
    /// ONNX Runtime is there: what it does faster than the best of this processor is left to it.
    bool beside_onnxruntime = false;
};

/// For native forms of one operation: a chain of transposed convolutions that makes a picture of uint8, or a
/// network of integers.
[[nodiscard]] std::shared_ptr<const Backend> make_native_backend(NativeOptions options = {});

/// One graph of it, which `bundle::check_graph_entry` would pass, with what its native form uses of stored
/// tensors. text: what the names in both are views of. As `Backend::load` else.
Status make_native_executable(bundle::Graph graph, std::vector<bundle::Tensor> weights,
                              std::shared_ptr<const void> text, NativeOptions options,
                              std::shared_ptr<const Executable>& out, bool& other_kind);

/// Where proofs of exactness are remembered from one process to the next: only where a host gives functions
/// for it.
struct ProofMarks {
    std::function<bool(std::string_view key)> has;
    std::function<void(std::string_view key)> set;
};

/// The graphs of one bundle, each loaded, and proven if it is exact, when it is first run. Safe to use from
/// many threads.
class Graphs {
public:
    Graphs(std::shared_ptr<const bundle::Bundle> bundle, std::vector<std::shared_ptr<const Backend>> backends,
           double load_seconds, ProofMarks marks);
    ~Graphs();

    /// unsupported: no backend can be trusted with it, or a part of the bundle is not the manifest's. limit:
    /// loading and proving take longer than they may.
    Status get(std::string_view graph, std::shared_ptr<const Executable>& out, const Work& work);

    /// Bytes per pixel that a graph needs besides its inputs and outputs, on the backend that runs it.
    Status workspace(std::string_view graph, double& bytes_per_pixel, const Work& work);

    struct Report {
        std::string_view graph, backend;
        std::vector<std::string> refusals;    ///< why preferred backends were passed over
        std::uint64_t calls = 0, pixels = 0;  ///< on how many pixels in all it has run
    };
    /// Of the graphs loaded so far.
    [[nodiscard]] std::vector<Report> report() const;

    [[nodiscard]] const std::shared_ptr<const bundle::Bundle>& bundle() const;

    /// Counts a call for the report.
    void count(std::string_view graph, std::uint64_t pixels);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Plans that keep to a limit of memory. Those of whole pictures are kept for the next one of that size. Safe
/// to use from many threads.
class Plans {
public:
    Plans(std::shared_ptr<Graphs> graphs, std::uint64_t memory_bytes);
    ~Plans();

    /// As `program::make_plan`, and limit: it takes more memory than there may be. Where it matters, graphs
    /// are loaded to ask their backends what they need. workspace: is set here.
    Status get(program::Request request, std::shared_ptr<const program::Plan>& out, const Work& work);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Symbols of a stream, 0 where they are not coded, and what codes them.
struct Coded {
    const bundle::Entropy* entropy = nullptr;
    std::shared_ptr<const Codebook> codebook;
    Array symbols;  ///< int32 [channels, height, width]
    Array index;    ///< uint8: table of each channel, or of each place
    bool by_channel = false;

    /// Symbols that the encoder's graph gave, and of them those on an end of what they may be: it clips
    /// there.
    std::uint64_t clipped = 0;
    std::int32_t low = 0, high = 0;

    [[nodiscard]] TableChoice tables() const { return {index.data, by_channel}; }
    [[nodiscard]] TensorShape shape() const;
};

/// What steps gave for one picture, kept from one trial of an encoder to the next. Every tensor has a
/// version, which stands for how it was made: a step whose graph, parameters and versions of inputs are those
/// of the last time gives the tensors of the last time. For one picture; one thread at a time.
class Memo {
public:
    struct Kept;
    using Key = std::vector<std::int64_t>;
    using Place = std::pair<std::uint32_t, const void*>;  ///< a round and a step of the program

    /// All that is kept takes at most so many bytes.
    explicit Memo(std::uint64_t bytes);
    ~Memo();
    Memo(const Memo&) = delete;
    Memo& operator=(const Memo&) = delete;

    /// Multiply-accumulates of all graphs that have run, by the manifest's figures.
    double macs = 0;

    /// Of a tensor unlike any other.
    [[nodiscard]] std::uint64_t version() { return ++versions_; }

    /// What a step gave when it last ran, whatever it was made of; nullptr where it has not.
    [[nodiscard]] std::shared_ptr<const Kept> last(const Place& place) const;

    /// Keeps what a step has given in place of what it gave before. Nobody may change the tensors any more.
    std::shared_ptr<const Kept> keep(const Place& place, Key key, std::vector<Array> tensors);

private:
    std::map<Place, std::shared_ptr<const Kept>> kept_;
    std::uint64_t left_bytes_, versions_ = 0;
};

struct Memo::Kept {
    Key key;  ///< what the tensors were made of; empty where only their values say
    std::vector<Array> tensors;
    std::vector<std::uint64_t> versions;
    std::uint64_t bytes = 0;
};

/// One encode or decode. One thread at a time; `Work::control` may be used from others.
class Execution {
public:
    struct Input {
        const program::Plan* plan = nullptr;  ///< of one picture (batch 1)
        Graphs* graphs = nullptr;
        std::span<const std::uint8_t> file;      ///< decoding
        const nicrt::File* directory = nullptr;  ///< decoding
        std::uint32_t tile = 0;                  ///< decoding: edge of the file's tiles in pixels
        bool encoding = false;
        Array picture;  ///< encoding: float32 [height, width, 3]
        /// Encoding, for rounds of another size than the picture's: gives the picture of that size.
        std::function<Status(program::Extent, Array& out)> resample;
        /// Symbols of every stream, int32 [channels, height, width], in place of `file` or of `enc` steps.
        std::optional<std::vector<Array>> given;
        Memo* memo = nullptr;
        Work work;
        /// Told the name of every entropy step and call of a graph, and its seconds.
        std::function<Status(std::string_view step, double seconds)> trace;
    };
    /// The input's memory must outlive the execution.
    static Status make(Input input, std::unique_ptr<Execution>& out);
    ~Execution();

    /// All steps that are left.
    Status run();

    /// The next step alone. Tensors that nothing reads any more are there until the next one; `done` where
    /// there was none.
    Status step(std::uint32_t& number, bool& done);

    /// The tensor that has this name now, with what the plan says of it. invalid_argument: there is none.
    Status tensor(std::string_view name, Array& out, const program::Tensor*& planned) const;

    /// As `tensor`, for who changes values of it: from then on it is the execution's own copy.
    Status change(std::string_view name, Array& out, const program::Tensor*& planned);

    /// The picture of a round on a rectangle, float32 [1, 3, height, width].
    Status picture(std::uint32_t round, const program::Rect& rect, Array& out);

    /// What the entropy step that has just run had to code, or has read.
    Status coded(std::uint32_t step, Coded& out) const;

    /// Runs a graph in the place of a step's on a rectangle, some of its sources given (by the name that the
    /// step has for them), the others as they are now; outputs in the step's order. plan: whose step it is:
    /// of the same picture and round, this execution's or another one's.
    Status evaluate(const program::Plan& plan, std::uint32_t step, std::string_view graph,
                    const program::Rect& rect, std::span<const Named> given, std::vector<Array>& outputs);

    /// What the last round shows of the plan's region: uint8 [height, width, 3]. Not to be changed where a
    /// memo keeps it.
    Status shown(Array& out) const;

private:
    struct Impl;
    explicit Execution(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace nicrt::engine
