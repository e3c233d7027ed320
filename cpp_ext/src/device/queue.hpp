// What a queue is made of in each build.
#pragma once

#include "nicrt/device.hpp"

#ifdef NICRT_DEVICE_CUDA
#include <cuda_runtime_api.h>

#include <vector>
#else
#include <functional>
#include <memory>
#include <vector>
#endif

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

#ifdef NICRT_DEVICE_CUDA

/// ok, limit (the device's memory) or internal, with CUDA's words for it.
Status cuda_status(cudaError_t error, const char* doing);

/// Makes a device the current one of this thread.
class DeviceGuard {
public:
    explicit DeviceGuard(int device) {
        cudaGetDevice(&before_);
        changed_ = before_ != device;
        if (changed_) cudaSetDevice(device);
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
    int before_ = 0;
    bool changed_ = false;
};

struct Queue::Impl {
    int device = 0;
    cudaStream_t stream = nullptr;
    cudaMemPool_t pool = nullptr;
    unsigned processors = 0;
    std::size_t shared_limit = 0;
    bool capturing = false;
    std::vector<void*> freed_while_capturing;
};

#else

using Work = std::function<void()>;
using WorkList = std::vector<Work>;

struct Queue::Impl {
    std::unique_ptr<WorkList> noted;  ///< where work goes while capturing

    template <class Step>
    void submit(Step&& step) {
        if (noted) noted->emplace_back(std::forward<Step>(step));
        else step();
    }
};

#endif

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
