// Buffers of a device and page-locked arrays.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "convert.hpp"
#include "device.hpp"

namespace nicrt::python {
inline namespace NICRT_DEVICE_BUILD {
namespace {

using namespace nb::literals;
using device::Memory;
using device::PinnedMemory;
using device::QueuePtr;
using Shape = std::vector<std::size_t>;
using AnyArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using NumpyArray = nb::ndarray<nb::numpy, nb::c_contig, nb::device::cpu>;

constexpr std::uint8_t kInt = 0, kUInt = 1, kFloat = 2;  // type codes of DLPack
constexpr DType kDTypes[] = {
    {"uint8", "|u1", {kUInt, 8, 1}}, {"int8", "|i1", {kInt, 8, 1}},       {"int32", "<i4", {kInt, 32, 1}},
    {"int64", "<i8", {kInt, 64, 1}}, {"float16", "<f2", {kFloat, 16, 1}}, {"float32", "<f4", {kFloat, 32, 1}},
};

std::size_t items_of(const Shape& shape) {
    std::size_t items = 1;
    for (const std::size_t extent : shape) {
        require(extent == 0 || items <= std::numeric_limits<std::size_t>::max() / 64 / extent,
                "a shape with too many items");
        items *= extent;
    }
    return items;
}

void make_tensor(DeviceTensor* self, const Shape& shape, const std::string& dtype, const QueuePtr& queue) {
    DeviceTensor tensor{nullptr, 0, shape, &dtype_of(dtype.c_str())};
    const std::size_t bytes = items_of(shape) * tensor.dtype->bytes();
    without_gil([&] { return Memory::allocate(queue, bytes, tensor.memory); });
    new (self) DeviceTensor(std::move(tensor));
}

DeviceTensor view(const DeviceTensor& self, const Shape& shape, const std::optional<std::string>& dtype,
                  std::size_t offset_bytes) {
    DeviceTensor tensor = self;
    tensor.shape = shape;
    if (dtype) tensor.dtype = &dtype_of(dtype->c_str());
    const std::size_t bytes = items_of(shape) * tensor.dtype->bytes();
    require(offset_bytes <= self.bytes() && bytes <= self.bytes() - offset_bytes,
            "the view does not lie in the buffer");
    tensor.offset += offset_bytes;
    require(tensor.offset % tensor.dtype->bytes() == 0, "the view is not aligned to its dtype");
    return tensor;
}

template <class Array>
void require_alike(const DeviceTensor& self, const Array& array) {
    const bool alike = array.dtype() == self.dtype->dlpack && array.ndim() == self.shape.size() &&
                       std::equal(self.shape.begin(), self.shape.end(), array.shape_ptr());
    require(alike,
            std::string("the array has another shape or dtype than the ") + self.dtype->name + " buffer");
}

void upload(const DeviceTensor& self, const AnyArray& array) {
    require_alike(self, array);
    device::Queue& queue = *self.memory->queue();
    require(!queue.capturing(), "nothing can be uploaded while the queue is capturing");
    without_gil([&]() -> Status {
        NICRT_RETURN_IF_ERROR(queue.copy_to_device(self.data(), array.data(), self.bytes()));
        return queue.synchronize();
    });
}

/// A numpy array of these bytes, which `owner` keeps.
NumpyArray numpy_of(void* data, const Shape& shape, const DType& dtype, nb::handle owner) {
    return NumpyArray(data, shape.size(), shape.data(), owner, nullptr, dtype.dlpack);
}

NumpyArray download(const DeviceTensor& self, const std::optional<NumpyArray>& out) {
    device::Queue& queue = *self.memory->queue();
    require(!queue.capturing(), "nothing can be downloaded while the queue is capturing");
    NumpyArray array;
    if (out) {
        require_alike(self, *out);
        array = *out;
    } else {
        auto* const bytes = new std::uint8_t[std::max<std::size_t>(self.bytes(), 1)];
        const nb::capsule owner(bytes, [](void* p) noexcept { delete[] static_cast<std::uint8_t*>(p); });
        array = numpy_of(bytes, self.shape, *self.dtype, owner);
    }
    without_gil([&]() -> Status {
        NICRT_RETURN_IF_ERROR(queue.copy_to_host(array.data(), self.data(), self.bytes()));
        return queue.synchronize();
    });
    return array;
}

void copy_from(const DeviceTensor& self, const DeviceTensor& other, const std::optional<QueuePtr>& on) {
    require(self.bytes() == other.bytes(), "the buffers differ in size");
    device::Queue& queue = on ? **on : *self.memory->queue();
    raise_if_error(queue.copy_on_device(self.data(), other.data(), self.bytes()));
}

/// A new owner of the tensor's memory for others to hold.
nb::capsule owner_of(const DeviceTensor& self) {
    return nb::capsule(new std::shared_ptr<Memory>(self.memory),
                       [](void* p) noexcept { delete static_cast<std::shared_ptr<Memory>*>(p); });
}

int device_type() {
#ifdef NICRT_DEVICE_CUDA
    return nb::device::cuda::value;
#else
    return nb::device::cpu::value;
#endif
}

/// DLPack's streams for CUDA: None and 1 the legacy default one, 2 the default one of the thread, -1 no wait.
void release_to_consumer(const DeviceTensor& self, nb::handle stream) {
    const std::intptr_t handle = stream.is_none() ? 1 : nb::cast<std::intptr_t>(stream);
    if (handle == -1) return;
    require(handle > 0, "a DLPack stream is None, -1 or a positive handle");
    raise_if_error(self.memory->queue()->release_to(static_cast<std::uintptr_t>(handle)));
}

nb::object dlpack(const DeviceTensor& self, nb::handle stream, nb::handle max_version, nb::handle dl_device,
                  nb::handle copy) {
    if (device_type() != nb::device::cpu::value) release_to_consumer(self, stream);
    const nb::ndarray<nb::array_api> array(self.data(), self.shape.size(), self.shape.data(), owner_of(self),
                                           nullptr, self.dtype->dlpack, device_type(),
                                           self.memory->queue()->device());
    return nb::cast(array).attr("__dlpack__")("max_version"_a = max_version, "dl_device"_a = dl_device,
                                              "copy"_a = copy);
}

nb::tuple tuple_of(const Shape& shape) {
    nb::list extents;
    for (const std::size_t extent : shape) extents.append(extent);
    return nb::tuple(extents);
}

#ifdef NICRT_DEVICE_CUDA
/// CUDA array interface, version 3: consumers wait for `stream` themselves.
nb::dict array_interface(const DeviceTensor& self) {
    nb::dict result;
    result["shape"] = tuple_of(self.shape);
    result["typestr"] = self.dtype->typestr;
    result["data"] = nb::make_tuple(reinterpret_cast<std::uintptr_t>(self.data()), false);
    result["strides"] = nb::none();
    result["version"] = 3;
    result["stream"] = self.memory->queue()->handle();
    return result;
}
#endif

NumpyArray pinned(const Shape& shape, const std::string& dtype_name) {
    const DType& dtype = dtype_of(dtype_name.c_str());
    std::shared_ptr<PinnedMemory> memory;
    without_gil([&] { return PinnedMemory::allocate(items_of(shape) * dtype.bytes(), memory); });
    std::uint8_t* const data = memory->data();
    const nb::capsule owner(new std::shared_ptr<PinnedMemory>(std::move(memory)),
                            [](void* p) noexcept { delete static_cast<std::shared_ptr<PinnedMemory>*>(p); });
    return numpy_of(data, shape, dtype, owner);
}

}  // namespace

const DType& dtype_of(const char* name) {
    for (const DType& dtype : kDTypes)
        if (std::strcmp(dtype.name, name) == 0) return dtype;
    throw nb::value_error(
        (std::string("dtype ") + name + " is not one of uint8, int8, int32, int64, float16, float32")
            .c_str());
}

std::size_t DeviceTensor::items() const { return items_of(shape); }

bool DeviceTensor::is(const char* name, std::size_t dimensions) const {
    return std::strcmp(dtype->name, name) == 0 && shape.size() == dimensions;
}

void register_device_tensor(nb::module_& module) {
    nb::class_<DeviceTensor> buffer(module, "Buffer", "A tensor on the device, row-major without gaps.");
    buffer.def("__init__", &make_tensor, "shape"_a, "dtype"_a, "queue"_a)
        .def_prop_ro("pointer",
                     [](const DeviceTensor& self) { return reinterpret_cast<std::uintptr_t>(self.data()); })
        .def_prop_ro("shape", [](const DeviceTensor& self) { return tuple_of(self.shape); })
        .def_prop_ro("dtype", [](const DeviceTensor& self) { return self.dtype->name; })
        .def_prop_ro("nbytes", &DeviceTensor::bytes)
        .def_prop_ro("queue", [](const DeviceTensor& self) { return self.memory->queue(); })
        .def("view", &view, "shape"_a, "dtype"_a = nb::none(), "offset_bytes"_a = 0,
             "The same memory with another shape, or a part of it.")
        .def("upload", &upload, "array"_a.noconvert(), "Copies an array here.")
        .def("download", &download, "out"_a.noconvert() = nb::none(), "A numpy copy, into `out` where given.")
        .def("copy_from", &copy_from, "other"_a, "queue"_a = nb::none(),
             "Queues a copy from another buffer of the same device.")
        .def("__dlpack__", &dlpack, nb::kw_only(), "stream"_a = nb::none(), "max_version"_a = nb::none(),
             "dl_device"_a = nb::none(), "copy"_a = nb::none())
        .def("__dlpack_device__", [](const DeviceTensor& self) {
            return nb::make_tuple(device_type(), self.memory->queue()->device());
        });
#ifdef NICRT_DEVICE_CUDA
    buffer.def_prop_ro("__cuda_array_interface__", &array_interface);
#endif
    module.def("pinned", &pinned, "shape"_a, "dtype"_a, "A numpy array in page-locked memory.");
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::python
