#include "backends/shared_library.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

#include "backends/one_line.hpp"

namespace nicrt {

Status open_symbol(const std::string& path, const char* symbol, void*& out) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error))  // opening a pipe would wait for who writes to it
        return {Code::unsupported, "there is no library " + one_line(path)};
    void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const reason = ::dlerror();
        return {Code::unsupported,
                "cannot open the library " + one_line(path) + ": " +
                    one_line(reason != nullptr ? reason : "for a reason that is not known")};
    }
    out = ::dlsym(library, symbol);
    if (out != nullptr) return {};
    ::dlclose(library);
    return {Code::unsupported, "the library " + one_line(path) + " has no " + symbol};
}

}  // namespace nicrt
