// Queues of the host build: work is done when it is asked for, or noted while capturing.
#include <chrono>
#include <cstring>
#include <new>

#include "queue.hpp"

namespace nicrt::device {
inline namespace NICRT_DEVICE_BUILD {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::align_val_t kAlignment{256};

std::uint8_t* allocate_aligned(std::size_t bytes) {
    return static_cast<std::uint8_t*>(::operator new(bytes == 0 ? 1 : bytes, kAlignment, std::nothrow));
}

void free_aligned(std::uint8_t* data) { ::operator delete(data, kAlignment); }

Status out_of_memory(std::size_t bytes) {
    return {Code::limit, "no memory for " + std::to_string(bytes) + " bytes"};
}

Status copy(Queue& queue, void* to, const void* from, std::size_t bytes) {
    queue.impl().submit([=] { std::memcpy(to, from, bytes); });
    return {};
}

}  // namespace

struct Event::Impl {
    Clock::time_point at;
};

struct Graph::Impl {
    WorkList work;
};

int device_count() { return 1; }

Status device_name(int device, std::string& name) {
    if (device != 0) return invalid_argument("the host build has one device, number 0");
    name = "host";
    return {};
}

Event::Event(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Event::~Event() = default;
Status Event::synchronize() { return {}; }

Status Event::elapsed_ms(const Event& start, float& milliseconds) const {
    milliseconds = std::chrono::duration<float, std::milli>(impl_->at - start.impl_->at).count();
    return {};
}

Graph::Graph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Graph::~Graph() = default;

Status Graph::replay() {
    for (const Work& work : impl_->work) work();
    return {};
}

Queue::Queue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Queue::~Queue() = default;

Status Queue::make(int device, QueuePtr& out) {
    if (device != 0) return invalid_argument("the host build has one device, number 0");
    out = std::make_shared<Queue>(std::make_unique<Impl>());
    return {};
}

int Queue::device() const { return 0; }
std::uintptr_t Queue::handle() const { return 0; }
unsigned Queue::processors() const { return 3; }  // more than one, for the sake of the loops over blocks
std::size_t Queue::shared_limit() const { return std::size_t{227} << 10; }
Status Queue::synchronize() { return {}; }

Status Queue::record(std::shared_ptr<Event>& out) {
    auto impl = std::make_unique<Event::Impl>();
    impl->at = Clock::now();
    out = std::make_shared<Event>(std::move(impl));
    return {};
}

Status Queue::wait(const Event&) { return {}; }
Status Queue::release_to(std::uintptr_t) { return {}; }

bool Queue::capturing() const { return impl_->noted != nullptr; }

Status Queue::begin_capture() {
    if (impl_->noted) return invalid_argument("the queue is capturing already");
    impl_->noted = std::make_unique<WorkList>();
    return {};
}

Status Queue::end_capture(const QueuePtr& queue, std::unique_ptr<Graph>& out) {
    auto& noted = queue->impl().noted;
    if (!noted) return invalid_argument("the queue is not capturing");
    auto impl = std::make_unique<Graph::Impl>();
    impl->work = std::move(*noted);
    noted.reset();
    out = std::make_unique<Graph>(std::move(impl));
    return {};
}

Status Queue::copy_to_device(void* to, const void* from, std::size_t bytes) {
    return copy(*this, to, from, bytes);
}
Status Queue::copy_to_host(void* to, const void* from, std::size_t bytes) {
    return copy(*this, to, from, bytes);
}
Status Queue::copy_on_device(void* to, const void* from, std::size_t bytes) {
    return copy(*this, to, from, bytes);
}

Memory::Memory(QueuePtr queue, std::uint8_t* data, std::size_t bytes)
    : queue_(std::move(queue)), data_(data), bytes_(bytes) {}
Memory::~Memory() { free_aligned(data_); }

Status Memory::allocate(QueuePtr queue, std::size_t bytes, std::shared_ptr<Memory>& out) {
    std::uint8_t* const data = allocate_aligned(bytes);
    if (data == nullptr) return out_of_memory(bytes);
    out.reset(new Memory(std::move(queue), data, bytes));
    return {};
}

PinnedMemory::~PinnedMemory() { free_aligned(data_); }

Status PinnedMemory::allocate(std::size_t bytes, std::shared_ptr<PinnedMemory>& out) {
    std::uint8_t* const data = allocate_aligned(bytes);
    if (data == nullptr) return out_of_memory(bytes);
    out.reset(new PinnedMemory(data));
    return {};
}

}  // namespace NICRT_DEVICE_BUILD
}  // namespace nicrt::device
