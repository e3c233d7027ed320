// The parts of the device modules, compiled once for each build of nicrt/device.hpp.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "convert.hpp"
#include "nicrt/device.hpp"

namespace nicrt::python {
inline namespace NICRT_DEVICE_BUILD {  // both modules may be in one process

/// A dtype of device buffers by its names in Python, DLPack and array interfaces.
struct DType {
    const char* name;
    const char* typestr;
    nb::dlpack::dtype dlpack;

    [[nodiscard]] std::size_t bytes() const { return dlpack.bits / 8u; }
};

/// ValueError for a name that is not one.
[[nodiscard]] const DType& dtype_of(const char* name);

/// <module>.Buffer: memory, or part of it, as a tensor.
struct DeviceTensor {
    std::shared_ptr<device::Memory> memory;
    std::size_t offset = 0;
    std::vector<std::size_t> shape;
    const DType* dtype = nullptr;

    [[nodiscard]] std::size_t items() const;
    [[nodiscard]] std::size_t bytes() const { return items() * dtype->bytes(); }
    [[nodiscard]] std::uint8_t* data() const { return memory->data() + offset; }
    [[nodiscard]] bool is(const char* name, std::size_t dimensions) const;
};

void register_device_tensor(nb::module_& module);
void register_device_work(nb::module_& module);

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::python
