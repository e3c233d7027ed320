// Queues, memory and graphs of the CUDA build, on the runtime API.
#include <limits>
#include <mutex>

#include "queue.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

/// Memory that is freed stays with this process: giving it back to the driver costs milliseconds. A pool of
/// our own, so that no other library's habits change.
Status memory_pool(int device, cudaMemPool_t& pool) {
    static std::mutex mutex;
    static std::vector<cudaMemPool_t> pools;
    const std::lock_guard lock(mutex);
    const auto number = static_cast<std::size_t>(device);
    if (pools.size() <= number) pools.resize(number + 1);
    if (pools[number] == nullptr) {
        cudaMemPoolProps properties{};
        properties.allocType = cudaMemAllocationTypePinned;
        properties.location.type = cudaMemLocationTypeDevice;
        properties.location.id = device;
        cudaMemPool_t made = nullptr;
        NICRT_RETURN_IF_ERROR(cuda_status(cudaMemPoolCreate(&made, &properties), "making a memory pool"));
        auto keep = std::numeric_limits<std::uint64_t>::max();
        NICRT_RETURN_IF_ERROR(
            cuda_status(cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &keep),
                        "setting up a memory pool"));
        pools[number] = made;
    }
    pool = pools[number];
    return {};
}

Status attribute(int device, cudaDeviceAttr which, int& value) {
    return cuda_status(cudaDeviceGetAttribute(&value, which, device), "asking for a device attribute");
}

}  // namespace

Status cuda_status(cudaError_t error, const char* doing) {
    if (error == cudaSuccess) return {};
    cudaGetLastError();  // an error that is not sticky must not show up in the next call
    const std::string message = std::string("CUDA, ") + doing + ": " + cudaGetErrorString(error);
    return {error == cudaErrorMemoryAllocation ? Code::limit : Code::internal, message};
}

struct Event::Impl {
    cudaEvent_t event = nullptr;
    ~Impl() { cudaEventDestroy(event); }
};

struct Graph::Impl {
    QueuePtr queue;
    cudaGraphExec_t graph = nullptr;
    ~Impl() { cudaGraphExecDestroy(graph); }
};

int device_count() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return count;
}

Status device_name(int device, std::string& name) {
    cudaDeviceProp properties;
    NICRT_RETURN_IF_ERROR(cuda_status(cudaGetDeviceProperties(&properties, device), "asking for a device"));
    name = std::string(properties.name) + " (sm_" + std::to_string(properties.major) +
           std::to_string(properties.minor) + ")";
    return {};
}

Event::Event(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Event::~Event() = default;

Status Event::synchronize() {
    return cuda_status(cudaEventSynchronize(impl_->event), "waiting for an event");
}

Status Event::elapsed_ms(const Event& start, float& milliseconds) const {
    return cuda_status(cudaEventElapsedTime(&milliseconds, start.impl_->event, impl_->event),
                       "timing events");
}

Graph::Graph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Graph::~Graph() = default;

Status Graph::replay() {
    const DeviceGuard guard(impl_->queue->device());
    return cuda_status(cudaGraphLaunch(impl_->graph, impl_->queue->impl().stream), "launching a graph");
}

Queue::Queue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Queue::~Queue() {
    const DeviceGuard guard(impl_->device);
    for (void* const memory : impl_->freed_while_capturing) cudaFreeAsync(memory, impl_->stream);
    cudaStreamDestroy(impl_->stream);
}

Status Queue::make(int device, QueuePtr& out) {
    const int count = device_count();
    if (device < 0 || device >= count)
        return invalid_argument("no CUDA device " + std::to_string(device) + "; there are " +
                                std::to_string(count));
    auto impl = std::make_unique<Impl>();
    impl->device = device;
    const DeviceGuard guard(device);
    int processors = 0, shared = 0;
    NICRT_RETURN_IF_ERROR(attribute(device, cudaDevAttrMultiProcessorCount, processors));
    NICRT_RETURN_IF_ERROR(attribute(device, cudaDevAttrMaxSharedMemoryPerBlockOptin, shared));
    impl->processors = static_cast<unsigned>(processors);
    impl->shared_limit = static_cast<std::size_t>(shared);
    NICRT_RETURN_IF_ERROR(memory_pool(device, impl->pool));
    NICRT_RETURN_IF_ERROR(
        cuda_status(cudaStreamCreateWithFlags(&impl->stream, cudaStreamNonBlocking), "making a stream"));
    out = std::make_shared<Queue>(std::move(impl));
    return {};
}

int Queue::device() const { return impl_->device; }
std::uintptr_t Queue::handle() const { return reinterpret_cast<std::uintptr_t>(impl_->stream); }
unsigned Queue::processors() const { return impl_->processors; }
std::size_t Queue::shared_limit() const { return impl_->shared_limit; }

Status Queue::synchronize() {
    return cuda_status(cudaStreamSynchronize(impl_->stream), "waiting for a stream");
}

Status Queue::record(std::shared_ptr<Event>& out) {
    const DeviceGuard guard(impl_->device);
    auto impl = std::make_unique<Event::Impl>();
    NICRT_RETURN_IF_ERROR(cuda_status(cudaEventCreate(&impl->event), "making an event"));
    NICRT_RETURN_IF_ERROR(cuda_status(cudaEventRecord(impl->event, impl_->stream), "recording an event"));
    out = std::make_shared<Event>(std::move(impl));
    return {};
}

Status Queue::wait(const Event& event) {
    return cuda_status(cudaStreamWaitEvent(impl_->stream, event.impl().event, 0), "waiting for an event");
}

Status Queue::release_to(std::uintptr_t handle) {
    std::shared_ptr<Event> event;
    NICRT_RETURN_IF_ERROR(record(event));
    const DeviceGuard guard(impl_->device);  // the default streams' handles mean those of the current device
    auto* const stream = reinterpret_cast<cudaStream_t>(handle);
    return cuda_status(cudaStreamWaitEvent(stream, event->impl().event, 0), "making another stream wait");
}

bool Queue::capturing() const { return impl_->capturing; }

Status Queue::begin_capture() {
    if (impl_->capturing) return invalid_argument("the queue is capturing already");
    // Relaxed: other libraries whose work is captured may take memory while they queue it.
    NICRT_RETURN_IF_ERROR(cuda_status(cudaStreamBeginCapture(impl_->stream, cudaStreamCaptureModeRelaxed),
                                      "beginning a capture"));
    impl_->capturing = true;
    return {};
}

Status Queue::end_capture(const QueuePtr& queue, std::unique_ptr<Graph>& out) {
    Impl& self = queue->impl();
    if (!self.capturing) return invalid_argument("the queue is not capturing");
    self.capturing = false;
    const DeviceGuard guard(self.device);
    cudaGraph_t graph = nullptr;
    const Status ended = cuda_status(cudaStreamEndCapture(self.stream, &graph), "ending a capture");
    for (void* const memory : self.freed_while_capturing) cudaFreeAsync(memory, self.stream);
    self.freed_while_capturing.clear();
    NICRT_RETURN_IF_ERROR(ended);
    auto impl = std::make_unique<Graph::Impl>();
    impl->queue = queue;
    const cudaError_t made = cudaGraphInstantiateWithFlags(&impl->graph, graph, 0);
    cudaGraphDestroy(graph);
    NICRT_RETURN_IF_ERROR(cuda_status(made, "making a graph of what was captured"));
    out = std::make_unique<Graph>(std::move(impl));
    return {};
}

Status Queue::copy_to_device(void* to, const void* from, std::size_t bytes) {
    return cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, impl_->stream),
                       "copying to the device");
}

Status Queue::copy_to_host(void* to, const void* from, std::size_t bytes) {
    return cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, impl_->stream),
                       "copying from the device");
}

Status Queue::copy_on_device(void* to, const void* from, std::size_t bytes) {
    return cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, impl_->stream),
                       "copying on the device");
}

Memory::Memory(QueuePtr queue, std::uint8_t* data, std::size_t bytes)
    : queue_(std::move(queue)), data_(data), bytes_(bytes) {}

/// A free that is captured would run at every replay, so it waits for the end of the capture.
Memory::~Memory() {
    Queue::Impl& queue = queue_->impl();
    if (queue.capturing) {
        queue.freed_while_capturing.push_back(data_);
        return;
    }
    const DeviceGuard guard(queue.device);
    cudaFreeAsync(data_, queue.stream);
}

Status Memory::allocate(QueuePtr queue, std::size_t bytes, std::shared_ptr<Memory>& out) {
    const Queue::Impl& impl = queue->impl();
    if (impl.capturing) return invalid_argument("memory cannot be taken while the queue is capturing");
    const DeviceGuard guard(impl.device);
    void* data = nullptr;
    NICRT_RETURN_IF_ERROR(
        cuda_status(cudaMallocFromPoolAsync(&data, bytes == 0 ? 1 : bytes, impl.pool, impl.stream),
                    "taking device memory"));
    out.reset(new Memory(std::move(queue), static_cast<std::uint8_t*>(data), bytes));
    return {};
}

PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

Status PinnedMemory::allocate(std::size_t bytes, std::shared_ptr<PinnedMemory>& out) {
    void* data = nullptr;
    NICRT_RETURN_IF_ERROR(cuda_status(cudaHostAlloc(&data, bytes == 0 ? 1 : bytes, cudaHostAllocPortable),
                                      "taking page-locked memory"));
    out.reset(new PinnedMemory(static_cast<std::uint8_t*>(data)));
    return {};
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
