// The kernels, compiled by nvcc.
#include "kernels.cpp"
