// The whole test framework: a condition that must hold, in every build type.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(...)                                                                           \
    do {                                                                                     \
        if (!(__VA_ARGS__)) {                                                                \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (false)
