// The kernels as calls; kernels.cpp defines them for the host, kernels.cu for CUDA.
#pragma once

#include "entropy_layout.hpp"
#include "nicrt/device.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {

/// Queues everything from index and payload to symbols and fault.
Status decode_batch(Queue& queue, const EntropyBatch& batch, std::uint32_t max_segments);

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
