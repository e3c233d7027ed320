#include "fork.hpp"

#include <atomic>

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__EMSCRIPTEN__)
#define NICRT_FORKS 1
#include <pthread.h>
#endif

namespace nicrt {

#ifdef NICRT_FORKS
namespace {

constinit std::atomic<unsigned> generation{0};

/// In the child, where only the thread that forked goes on.
void count_fork() { generation.fetch_add(1, std::memory_order_relaxed); }

/// When the library is loaded: before any of its threads is there.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, &count_fork);

}  // namespace

unsigned fork_generation() { return generation.load(std::memory_order_relaxed); }
#else
unsigned fork_generation() { return 0; }
#endif

}  // namespace nicrt
