// Files as a source, where there are any. Nothing is mapped, since a mapped file can change or shrink after
// its contents were checked: what is read is a copy.
#include "bundle/parts.hpp"

#ifdef NICRT_HAS_FILES

#ifdef _WIN32
#include <filesystem>
#include <fstream>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace nicrt::bundle {
namespace {

/// The path of a folder, or of the one file.
struct Path {
    std::string path;
    bool is_folder;
};

std::string path_of(const Source& source, std::string_view name) {
    const Path& base = *static_cast<const Path*>(source.context.get());
    return base.is_folder ? base.path + "/" + std::string(name) : base.path;
}

Status refused(const std::string& path, const std::string& why) {
    constexpr std::size_t most = 4096;  // no system has longer paths, and a manifest may ask for one
    return {Code::unsupported, path.substr(0, most) + ": " + why + "; is this a codec bundle?"};
}

Status refused(const std::string& path, const std::error_code& error) {
    return refused(path, error.message());
}

#ifdef _WIN32

namespace fs = std::filesystem;

/// Paths are UTF-8.
fs::path native(const std::string& path) { return {std::u8string(path.begin(), path.end())}; }

Status size_of_file(const Source& source, std::string_view name, std::uint64_t& out) {
    const std::string path = path_of(source, name);
    std::error_code error;
    const bool is_regular = fs::is_regular_file(native(path), error);
    if (error) return refused(path, error);
    if (!is_regular) return refused(path, "not a regular file");
    out = fs::file_size(native(path), error);
    return error ? refused(path, error) : Status{};
}

Status read_file(const Source& source, std::string_view name, std::uint64_t start,
                 std::span<std::uint8_t> out) {
    std::uint64_t size = 0;
    NICRT_RETURN_IF_ERROR(size_of_file(source, name, size));
    const std::string path = path_of(source, name);
    std::ifstream file(native(path), std::ios::binary);
    file.seekg(static_cast<std::streamoff>(start));
    file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
    if (file) return {};
    return {Code::unsupported, path + ": it ends before byte " + std::to_string(start + out.size()) +
                                   "; export or install it again"};
}

#else

Status refused(const std::string& path, int error) {
    return refused(path, std::error_code(error, std::generic_category()));
}

class Handle {
public:
    Handle() = default;
    ~Handle() {
        if (number_ >= 0) ::close(number_);
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

    /// Does not wait for whoever writes a pipe, and refuses it.
    Status open(const std::string& path, std::uint64_t& size) {
        if (path.find('\0') != std::string::npos) return refused(path.c_str(), "a zero in its path");
        number_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        struct stat status{};
        if (number_ < 0 || ::fstat(number_, &status) != 0) return refused(path, errno);
        if (!S_ISREG(status.st_mode)) return refused(path, "not a regular file");
        size = static_cast<std::uint64_t>(status.st_size);
        return {};
    }

    [[nodiscard]] int number() const { return number_; }

private:
    int number_ = -1;
};

Status size_of_file(const Source& source, std::string_view name, std::uint64_t& out) {
    return Handle().open(path_of(source, name), out);
}

Status read_file(const Source& source, std::string_view name, std::uint64_t start,
                 std::span<std::uint8_t> out) {
    constexpr std::size_t most = std::size_t{1} << 30;  // of one call: some systems take no more
    const std::string path = path_of(source, name);
    Handle handle;
    std::uint64_t size = 0;
    NICRT_RETURN_IF_ERROR(handle.open(path, size));
    const std::uint64_t end = start + out.size();
    while (!out.empty()) {
        const auto count =
            ::pread(handle.number(), out.data(), std::min(out.size(), most), static_cast<off_t>(start));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return refused(path, errno);
        if (count == 0)
            return {Code::unsupported,
                    path + ": it ends before byte " + std::to_string(end) + "; export or install it again"};
        out = out.subspan(static_cast<std::size_t>(count));
        start += static_cast<std::uint64_t>(count);
    }
    return {};
}

#endif

Source source_of(std::string path, bool is_folder) {
    auto context = std::make_shared<Path>(Path{path, is_folder});
    return {std::move(path), std::move(context), size_of_file, read_file};
}

}  // namespace

Source folder_source(std::string folder) { return source_of(std::move(folder), true); }

Source file_source(std::string path) { return source_of(std::move(path), false); }

#ifdef _WIN32
bool is_folder(const std::string& path) {
    std::error_code error;
    return fs::is_directory(native(path), error);
}
#else
bool is_folder(const std::string& path) {
    struct stat status{};
    return path.find('\0') == std::string::npos && ::stat(path.c_str(), &status) == 0 &&
           S_ISDIR(status.st_mode);
}
#endif

}  // namespace nicrt::bundle

#endif
