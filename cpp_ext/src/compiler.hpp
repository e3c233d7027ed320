// What differs between compilers and their standard libraries. No other file asks which compiler it meets.
#pragma once

#include <cstddef>
#include <memory>

#if defined(__GNUC__) || defined(__clang__)
#define NICRT_INLINED __attribute__((always_inline))
/// The function may use these instruction sets, whatever the rest of the library is compiled for.
#define NICRT_TARGET(features) __attribute__((target(features)))
#else
#define NICRT_INLINED
#endif
#define NICRT_ALWAYS_INLINE NICRT_INLINED inline

// The x86 paths need target attributes; every other build has the portable ones only.
#if defined(__x86_64__) && defined(NICRT_TARGET)
#define NICRT_X86 1
#endif

namespace nicrt {

/// Whether threads can be started. WebAssembly has them only where it is built for them; elsewhere starting
/// one would end the program, as exceptions do not reach the C++ library there.
#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
inline constexpr bool kThreads = false;
#else
inline constexpr bool kThreads = true;
#endif

/// std::bit_cast, which the C++ library of Debian 12's Emscripten lacks.
template <class To, class From>
NICRT_ALWAYS_INLINE constexpr To bit_cast(const From& from) noexcept {
    return __builtin_bit_cast(To, from);
}

/// std::make_unique_for_overwrite, which that library lacks too: `count` values that hold nothing yet.
template <class Value>
std::unique_ptr<Value[]> uninitialised(std::size_t count) {
    return std::unique_ptr<Value[]>(new Value[count]);
}

/// Asks for a cache line ahead of its first use.
inline void prefetch([[maybe_unused]] const void* address) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(address, 0, 2);
#endif
}

}  // namespace nicrt
