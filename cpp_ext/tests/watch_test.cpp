// What stands between a library that runs graphs and its callers: turns of runs that share memory, and the
// watch that ends a run.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "backends/one_line.hpp"
#include "backends/turns.hpp"
#include "backends/watch.hpp"
#include "check.hpp"

namespace {

using namespace nicrt;
using Clock = Control::Clock;

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

void check_one_line() {
    CHECK(one_line("  a\n\tb\x01 c \n") == "a b c" && one_line("\n").empty());
    const std::string wide = one_line(std::string(199, 'x') + "größe");  // the cut is between two characters
    CHECK(wide == std::string(199, 'x') + "g...");
    CHECK(one_line(std::string(198, 'x') + "größe") == std::string(198, 'x') + "gr...");
    CHECK(one_line(std::string(199, 'x') + "ö") == std::string(199, 'x') + "ö");
}

void check_watch() {
    std::atomic<int> stops{0};
    const auto stop = [&] { ++stops; };
    {
        Watch without(nullptr, stop);
        CHECK(!without.end());
    }
    Control control;
    {
        Watch watch(&control, stop);
        pause();
        CHECK(!watch.end() && !watch.end());
        control.cancel();
        pause();
    }
    CHECK(stops == 0);  // nothing is called after the end
    Watch cancelled(&control, stop);
    while (stops == 0) pause();
    CHECK(cancelled.end() && stops == 1);
    const Control late(Clock::now() + std::chrono::milliseconds(20));
    Watch timed(&late, stop);
    while (stops == 1) pause();
    CHECK(timed.end() && stops == 2);
}

/// What runs at once needs one unit each of an arena of two: the third is full, and is run again alone.
void check_turns() {
    Turns turns;
    std::atomic<int> running{0}, full{0}, alone{0};
    std::vector<Status> results(8);
    std::vector<std::thread> threads;
    for (Status& result : results)
        threads.emplace_back([&] {
            int tries = 0;
            result = turns.run(nullptr, [&](bool& is_full) -> Status {
                ++tries;
                const int now = ++running;
                if (tries == 2) {
                    CHECK(now == 1);
                    ++alone;
                }
                pause();
                --running;
                is_full = now > 2;
                full += is_full ? 1 : 0;
                return is_full ? Status{Code::limit, "full"} : Status{};
            });
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::all_of(results.begin(), results.end(), [](const Status& status) { return status.ok(); }));
    CHECK(full > 0 && full == alone);

    int tries = 0;
    const auto too_large = [&](bool& is_full) -> Status {
        ++tries;
        is_full = true;
        return {Code::limit, "full"};
    };
    CHECK(turns.run(nullptr, too_large).code() == Code::limit &&
          tries == 1);  // it was alone: no second try helps
}

/// Who waits for a turn looks at its control.
void check_waiting() {
    Turns turns;
    std::atomic<bool> end{false}, inside{false}, failed{false};
    std::thread first([&] {
        CHECK(turns
                  .run(nullptr,
                       [&](bool&) -> Status {
                           inside = true;
                           while (!end) pause();
                           return {};
                       })
                  .ok());
    });
    while (!inside) pause();
    Control control;
    std::thread second([&] {  // full beside the first, it wants to be alone
        const Status status = turns.run(&control, [&](bool& is_full) -> Status {
            is_full = true;
            failed = true;
            return {Code::limit, "full"};
        });
        CHECK(status.code() == Code::cancelled);
    });
    while (!failed) pause();
    control.cancel();
    second.join();
    CHECK(turns.run(&control, [](bool&) { return Status{}; }).ok());  // nobody is waited for any more
    end = true;
    first.join();
}

}  // namespace

int main() {
    check_one_line();
    check_watch();
    check_turns();
    check_waiting();
}
