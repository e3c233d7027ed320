// How often this process was forked, as its own threads see it: what a child finds in memory of its parent's
// threads is of another generation. fork.cpp is the only file of the pool that asks the system for anything.
#pragma once

namespace nicrt {

/// Another number in the child of a fork() than in its parent.
[[nodiscard]] unsigned fork_generation();

}  // namespace nicrt
