// nicrt._device_host and nicrt._device_cuda: queues and what runs on them. The docstrings for people are in
// nicrt/_device_host.pyi.
#include "device.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bindings.hpp"
#include "convert.hpp"

namespace nicrt::python {
inline namespace NICRT_DEVICE_BUILD {
namespace {

using namespace nb::literals;
using device::Event;
using device::Graph;
using device::Queue;
using device::QueuePtr;
using device::StreamDecoder;
using ChannelIds = Array<const std::uint8_t, nb::ndim<1>>;
using PyFileStream = std::tuple<nb::object, PyStream>;

std::uint32_t extent(std::size_t value) {
    require(value <= UINT32_MAX, "an extent out of range");
    return static_cast<std::uint32_t>(value);
}

/// The library's answer to a call without the GIL.
template <class Result, class Call>
Result result_of(const Call& call) {
    Result result{};
    without_gil([&] { return call(result); });
    return result;
}

std::string name_of(int number) {
    return result_of<std::string>([&](std::string& name) { return device::device_name(number, name); });
}

void register_queue(nb::module_& module) {
    nb::class_<Event>(module, "Event", "A point in a queue.")
        .def("synchronize", [](Event& self) { without_gil([&] { return self.synchronize(); }); })
        .def(
            "elapsed_ms",
            [](const Event& self, const Event& start) {
                return result_of<float>([&](float& ms) { return self.elapsed_ms(start, ms); });
            },
            "start"_a, "Milliseconds on the device's clock from `start` to this event.");
    nb::class_<Graph>(module, "Graph", "Captured work.")
        .def(
            "replay", [](Graph& self) { without_gil([&] { return self.replay(); }); },
            "Adds the work to the queue that it was captured from.");
    nb::class_<Queue>(module, "Queue", "Work on one device, in its order (CUDA: a stream).")
        .def(nb::new_([](int number) {
                 return result_of<QueuePtr>([&](QueuePtr& queue) { return Queue::make(number, queue); });
             }),
             "device"_a = 0)
        .def_prop_ro("handle", &Queue::handle)
        .def_prop_ro("device", &Queue::device)
        .def("synchronize", [](Queue& self) { without_gil([&] { return self.synchronize(); }); })
        .def("record",
             [](Queue& self) {
                 std::shared_ptr<Event> event;
                 raise_if_error(self.record(event));
                 return event;
             })
        .def(
            "wait", [](Queue& self, const Event& event) { raise_if_error(self.wait(event)); }, "event"_a)
        .def("begin_capture", [](Queue& self) { raise_if_error(self.begin_capture()); })
        .def("end_capture", [](const QueuePtr& self) {
            std::unique_ptr<Graph> graph;
            raise_if_error(Queue::end_capture(self, graph));
            return graph;
        });
}

std::unique_ptr<StreamDecoder> make_decoder(const QueuePtr& queue, const PyCodebook& codebook,
                                            const std::array<std::size_t, 4>& extents, std::uint32_t tile,
                                            std::size_t max_bytes, std::size_t max_segments,
                                            const std::optional<ChannelIds>& channel_ids,
                                            std::tuple<std::int32_t, std::int32_t> limits) {
    device::DecoderShape shape;
    shape.pictures = extent(extents[0]);
    shape.tensor = {extent(extents[1]), extent(extents[2]), extent(extents[3])};
    shape.tile = tile;
    shape.max_bytes = max_bytes;
    shape.max_segments = max_segments;
    std::tie(shape.low, shape.high) = limits;
    require(!channel_ids || channel_ids->size() == shape.tensor.channels,
            "one channel id for each channel is needed");
    if (channel_ids) shape.channel_ids = channel_ids->data();
    std::unique_ptr<StreamDecoder> decoder;
    without_gil([&] { return StreamDecoder::make(queue, *codebook.tables, shape, decoder); });
    return decoder;
}

std::array<std::size_t, 4> shape_of(const StreamDecoder& self) {
    const device::DecoderShape& shape = self.shape();
    return {shape.pictures, shape.tensor.channels, shape.tensor.height, shape.tensor.width};
}

void set_files(StreamDecoder& self, const std::vector<PyFileStream>& files) {
    std::deque<Buffer> buffers;  // of Python objects: kept until the GIL is here again
    std::vector<device::FileStream> streams;
    for (const auto& [data, stream] : files) {
        buffers.emplace_back(data);
        streams.push_back({buffers.back().bytes(), stream.stream.get()});
    }
    without_gil([&] { return self.set(streams); });
}

void run_decoder(StreamDecoder& self, const DeviceTensor& symbols, const std::optional<DeviceTensor>& index) {
    const std::array<std::size_t, 4> shape = shape_of(self);
    require(symbols.is("int32", 4) && std::equal(shape.begin(), shape.end(), symbols.shape.begin()),
            "symbols must be int32 [n, channels, height, width] as the decoder's shape");
    device::IndexTensor view;
    if (index) {
        require(
            index->is("uint8", 4) && index->shape[0] == shape[0] && index->shape[1] == shape[1],
            "index must be uint8 [n, channels, height, width] with n and channels as the decoder's shape");
        view = {index->data(), extent(index->shape[2]), extent(index->shape[3])};
    }
    without_gil([&] { return self.run(view, reinterpret_cast<std::int32_t*>(symbols.data())); });
}

device::Planes planes_of(const DeviceTensor& tensor) {
    require(tensor.shape.size() == 4, "a tensor to crop has four dimensions");
    return {tensor.data(), tensor.shape[0] * tensor.shape[1], extent(tensor.shape[2]),
            extent(tensor.shape[3])};
}

void py_crop(Queue& queue, const DeviceTensor& source, const DeviceTensor& out, std::uint32_t top,
             std::uint32_t left) {
    require(source.dtype == out.dtype && source.shape.size() == 4 && out.shape.size() == 4 &&
                source.shape[0] == out.shape[0] && source.shape[1] == out.shape[1],
            "out must have the dtype and the first two extents of source");
    without_gil([&] {
        return device::crop(queue, planes_of(source), planes_of(out), top, left, source.dtype->bytes());
    });
}

device::PictureFormat format_of(const std::string& name) {
    if (name == "rgb") return device::PictureFormat::rgb;
    if (name == "planar") return device::PictureFormat::planar;
    require(name == "nv12", "format is rgb, planar or nv12");
    return device::PictureFormat::nv12;
}

/// What `out` must begin with, as Python has it: everything but the bytes of a row.
std::vector<std::size_t> stored_shape(device::PictureFormat format, std::size_t pictures,
                                      std::size_t height) {
    switch (format) {
        case device::PictureFormat::planar: return {pictures, 3, height};
        case device::PictureFormat::nv12: return {pictures, height + (height + 1) / 2};
        default: return {pictures, height};
    }
}

void py_store(Queue& queue, const DeviceTensor& picture, const DeviceTensor& out, std::uint32_t height,
              std::uint32_t width, const std::string& format_name) {
    require(picture.is("uint8", 4) && picture.shape[3] == 3, "picture must be uint8 [n, height, width, 3]");
    const device::PictureFormat format = format_of(format_name);
    const auto outer = stored_shape(format, picture.shape[0], height);
    const std::vector<std::size_t> triples{picture.shape[0], height, width, 3};
    const bool as_triples = format == device::PictureFormat::rgb && out.shape == triples;
    const bool as_rows =
        out.shape.size() == outer.size() + 1 && std::equal(outer.begin(), outer.end(), out.shape.begin());
    require(out.dtype == picture.dtype && (as_triples || as_rows),
            "out has another shape than the format needs");
    const std::size_t row_bytes = as_rows ? out.shape.back() : std::size_t{3} * width;
    const device::Pictures pictures{picture.data(), extent(picture.shape[0]), extent(picture.shape[1]),
                                    extent(picture.shape[2])};
    without_gil(
        [&] { return device::store(queue, pictures, height, width, format, {out.data(), row_bytes}); });
}

}  // namespace

void register_device_work(nb::module_& module) {
    module.def("device_count", &device::device_count, "Devices that can be used.");
    module.def(
        "available", [] { return device::device_count() > 0; }, "Whether there is a device to run on.");
    module.def("device_name", &name_of, "device"_a = 0,
               "As its maker calls it, with the compute capability.");
    register_queue(module);
    nb::class_<StreamDecoder>(module, "StreamDecoder", "Decodes one entropy step of a batch of equal shapes.")
        .def(nb::new_(&make_decoder), "queue"_a, "codebook"_a, "shape"_a, "tile"_a, "max_bytes"_a,
             "max_segments"_a, "channel_ids"_a.noconvert() = nb::none(),
             "limits"_a = std::tuple(-32768, 32767))
        .def_prop_ro("shape", [](const StreamDecoder& self) { return nb::tuple(nb::cast(shape_of(self))); })
        .def_prop_ro("max_bytes", [](const StreamDecoder& self) { return self.shape().max_bytes; })
        .def_prop_ro("max_segments", [](const StreamDecoder& self) { return self.shape().max_segments; })
        .def_prop_ro("device_bytes", &StreamDecoder::device_bytes)
        .def_prop_ro("host_bytes", &StreamDecoder::host_bytes)
        .def("set", &set_files, "files"_a, "Checks a batch and queues its copy to the device.")
        .def("run", &run_decoder, "symbols"_a, "index"_a = nb::none(), "Queues the decoding of what was set.")
        .def(
            "check", [](const StreamDecoder& self) { raise_if_error(self.check()); },
            "Raises CorruptError when the last run met damage.");
    module.def("crop", &py_crop, "queue"_a, "source"_a, "out"_a, "top"_a = 0, "left"_a = 0,
               "Queues out[..., y, x] = source[..., top + y, left + x].");
    module.def("store", &py_store, "queue"_a, "picture"_a, "out"_a, "height"_a, "width"_a, "format"_a = "rgb",
               "Queues the conversion of padded pictures to rgb, planar or nv12.");
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::python

#ifdef NICRT_DEVICE_CUDA
#define NICRT_DEVICE_MODULE _device_cuda
#define NICRT_DEVICE_KIND "cuda"
#else
#define NICRT_DEVICE_MODULE _device_host
#define NICRT_DEVICE_KIND "host"
#endif

NB_MODULE(NICRT_DEVICE_MODULE, module) {
    module.doc() = "Decoding on a device (see nicrt/device.hpp).";
    nanobind::module_::import_(
        "nicrt._core");  // has the codebooks and parsed streams that are given to decoders
    module.attr("kind") = NICRT_DEVICE_KIND;
    nicrt::python::register_device_work(module);
    nicrt::python::register_device_tensor(module);
}
