// ONNX models: refused with a typed status, or written in a form that is read as the same model and written
// again as the same bytes, and that ONNX Runtime cannot take for its own format.
#include "nicrt/onnx.hpp"

#include "input.hpp"

namespace {

using namespace nicrt;
using namespace nicrt::fuzz;

std::vector<std::uint8_t> written(const onnx::Model& model) {
    std::vector<std::uint8_t> bytes(onnx::written_bytes(model));
    onnx::write(model, bytes);
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Exact bytes(std::span(data, size));
    onnx::Model model;
    const Status status = onnx::read(bytes.bytes(), model);
    MUST(status.ok() || status.code() == Code::unsupported);
    if (!status.ok()) return 0;
    const auto once = written(model);
    MUST(once.size() <=
         size + 5);  // empty texts that were left out: the name of the graph, the domain of operators
    MUST(std::memcmp(once.data() + 4, "ORTM", 4) != 0);
    const Exact again(once);
    onnx::Model same;
    MUST(onnx::read(again.bytes(), same).ok());
    MUST(same.nodes.size() == model.nodes.size() && same.initializers.size() == model.initializers.size());
    MUST(written(same) == once);
    return 0;
}
