// exp without the C library's, which differs from one machine to the next.
#pragma once

namespace nicrt {

/// e^x, off by less than two units in the last place; with infinities and NaN as IEEE 754 has them. By
/// operations that every processor rounds alike, so that its bits are the same everywhere.
[[nodiscard]] double exponential(double x);

}  // namespace nicrt
