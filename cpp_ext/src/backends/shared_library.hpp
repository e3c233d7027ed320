// Libraries that are opened at run time. shared_library.cpp is the only file that asks the system for it.
#pragma once

#include <string>

#include "nicrt/status.hpp"

namespace nicrt {

/// Opens a library for the rest of the process and gives the address of one of its symbols. `path` has a
/// folder, so that the system searches none. unsupported: the file is not there, or no library, or without
/// the symbol.
Status open_symbol(const std::string& path, const char* symbol, void*& out);

}  // namespace nicrt
