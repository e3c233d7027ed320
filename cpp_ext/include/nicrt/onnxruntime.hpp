// ONNX Runtime on the CPU, for programs without Python: opened when it is asked for, from a path that the
// caller gives. It is in builds that found onnxruntime_c_api.h (NICRT_ONNXRUNTIME).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "nicrt/engine.hpp"
#include "nicrt/status.hpp"

namespace nicrt::engine {

struct OnnxRuntimeOptions {
    /// Path of the shared library, with its folder: it is looked for nowhere else. ONNX Runtime 1.19 or
    /// later.
    std::string library;

    /// Of one graph. With 1 it runs on the thread that asks for it; more are ONNX Runtime's own threads, as
    /// many for each graph: its workers wait for work for as long as the graph is loaded, so that they cannot
    /// be items of a `Runner`. They are not there in the child of a fork(): a graph that was loaded before is
    /// invalid_argument in it.
    unsigned threads = 1;

    /// For what one graph holds while it runs, besides inputs and outputs: the estimate of the largest plan
    /// that is to be run, or the caller's limit. Its weights come on top.
    std::uint64_t memory_bytes = std::uint64_t{8} << 30;

    /// In which a graph has to be loaded. It is stopped there where both the header of this build and the
    /// library are of version 1.22 or later; else it is refused when it has been loaded.
    double load_seconds = 120;

    /// From 1.32 on the library looks up a host in the network and writes files into the user's cache folder
    /// as soon as it is opened, unless the environment has ORT_DISABLE_TELEMETRY=1. Without that variable it
    /// is opened only where this is set.
    bool allow_telemetry = false;
};

/// Opens the library, which stays in the process until its end. invalid_argument: options that no library can
/// be opened with, telemetry that nobody has decided on. unsupported: there is no such file, or it is not
/// ONNX Runtime, or an older one.
///
/// While a graph runs with a control, another thread waits for its end, and stops the graph between two of
/// its operators. A program that uses the same library for itself must not register shared allocators with
/// it.
Status make_onnxruntime_backend(OnnxRuntimeOptions options, std::shared_ptr<const Backend>& out);

}  // namespace nicrt::engine
