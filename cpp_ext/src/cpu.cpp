#include "cpu.hpp"

#include <cstdlib>
#include <string>
#include <string_view>

#include "nicrt/segment.hpp"

#ifdef NICRT_X86
#include <cpuid.h>
#endif

namespace nicrt {
namespace {

#ifdef NICRT_X86
/// Compilers of Debian 12 have no name for it in __builtin_cpu_supports.
bool has_sha() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0;
}
#endif

std::string_view variable() {
    const char* const value = std::getenv("NICRT_ISA");
    return value == nullptr ? "" : value;
}

Cpu detect() {
    Cpu found;
#ifdef NICRT_X86
    __builtin_cpu_init();
    found.sha = has_sha() && __builtin_cpu_supports("sse4.1");
    found.sse42 = __builtin_cpu_supports("sse4.2");
    found.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                 __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    found.fma = found.avx2 && __builtin_cpu_supports("fma");
    found.avx512_bf16 = found.avx512 && __builtin_cpu_supports("avx512bf16");
    found.avx512_vnni = found.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
    // What a user can turn off to look for a fault, and tests to run the whole path with each instruction
    // set.
    const std::string_view most = variable();
    const bool only_avx2 = most == "avx2", only_scalar = most == "scalar";
    found.avx512_bf16 = found.avx512_bf16 && !(most == "avx512" || only_avx2 || only_scalar);
    found.avx512_vnni = found.avx512_vnni && !(only_avx2 || only_scalar);
    found.avx512 = found.avx512 && !(only_avx2 || only_scalar);
    found.avx2 = found.avx2 && !only_scalar;
    found.fma = found.fma && !only_scalar;
    found.sha = found.sha && !only_scalar;
    found.sse42 = found.sse42 && !only_scalar;
    return found;
}

}  // namespace

const Cpu& cpu() {
    static const Cpu found = detect();
    return found;
}

Status check_isa_variable() {
    const std::string_view value = variable();
    for (const std::string_view known : {"", "scalar", "avx2", "avx512", "best"})
        if (value == known) return {};
    return invalid_argument("NICRT_ISA is " + std::string(value) +
                            "; it can be scalar, avx2, avx512 or best");
}

bool isa_available(Isa isa) {
    switch (isa) {
        case Isa::best:
        case Isa::scalar: return true;
        case Isa::avx2: return cpu().avx2;
        case Isa::avx512: return cpu().avx512;
    }
    return false;
}

}  // namespace nicrt
