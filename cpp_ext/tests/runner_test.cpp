// The pool of threads, what ends work early, budgets of memory.
#include "nicrt/runner.hpp"

#include <array>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "check.hpp"
#include "compiler.hpp"
#include "nicrt/native.hpp"
#include "nicrt/stream.hpp"
#include "parallel.hpp"

// ThreadSanitizer knows no threads of a child whose parent had some: it ends the child.
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__EMSCRIPTEN__) && !defined(__SANITIZE_THREAD__)
#define NICRT_FORKS 1
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using namespace nicrt;
using Clock = Control::Clock;

std::size_t sum_on(Runner& runner, unsigned threads, std::size_t count) {
    std::atomic<std::size_t> sum{0};
    CHECK(parallel_for(count, {&runner, threads}, [&](std::size_t i) {
              sum += i;
              return Status();
          }).ok());
    return sum;
}

constexpr std::size_t sum_below(std::size_t count) { return count * (count - 1) / 2; }

void every_index_once() {
    const auto pool = make_pool(4);
    for (const unsigned threads : {0U, 1U, 2U, 4U, 900U})
        for (const std::size_t count : {0UL, 1UL, 2UL, 1000UL}) {
            std::vector<std::atomic<int>> calls(count);
            CHECK(parallel_for(count, {pool.get(), threads}, [&](std::size_t i) {
                      ++calls[i];
                      return Status();
                  }).ok());
            for (const auto& call : calls) CHECK(call == 1);
        }
}

/// Never more threads at once than asked for, whatever the pool has; and as many, where they have to meet.
void threads_are_bounded() {
    if (!kThreads) return;
    const auto pool = make_pool(8);
    for (const unsigned threads : {2U, 5U, 8U}) {
        std::atomic<unsigned> inside{0}, most{0};
        std::mutex mutex;
        std::set<std::thread::id> seen;
        CHECK(parallel_for(64, {pool.get(), threads}, [&](std::size_t) {
                  const unsigned now = ++inside;
                  unsigned old = most;
                  while (old < now && !most.compare_exchange_weak(old, now)) {
                  }
                  {
                      const std::lock_guard lock(mutex);
                      seen.insert(std::this_thread::get_id());
                  }
                  const auto until = Clock::now() + std::chrono::seconds(20);
                  while (most < threads && Clock::now() < until) std::this_thread::yield();
                  --inside;
                  return Status();
              }).ok());
        CHECK(most == threads && seen.size() == threads);
    }
}

void nested() {
    const auto pool = make_pool(3);
    std::atomic<std::size_t> sum{0};
    CHECK(parallel_for(10, {pool.get(), 3}, [&](std::size_t) {
              return parallel_for(10, {pool.get(), 3}, [&](std::size_t) {
                  sum += sum_on(*pool, 2, 50);
                  return Status();
              });
          }).ok());
    CHECK(sum == 100 * sum_below(50));
}

void concurrent() {
    if (!kThreads) return;
    const auto pool = make_pool(3);
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 5; ++caller)
        callers.emplace_back([&] {
            for (int round = 0; round < 200; ++round) CHECK(sum_on(*pool, 3, 40) == sum_below(40));
        });
    for (std::thread& caller : callers) caller.join();
}

void errors_are_those_of_the_lowest_index() {
    for (int round = 0; round < 50; ++round) {
        const Status status = parallel_for(100, {&process_pool(), 4}, [](std::size_t i) -> Status {
            if (i == 7) throw OverBudget(std::uint64_t{3} << 20);
            if (i > 7) throw std::runtime_error("later");
            return {};
        });
        CHECK(status.code() == Code::limit &&
              status.message() == "more memory is needed than the limit of 3 MiB");
    }
}

void control_ends_work() {
    Control control;
    CHECK(control.check().ok() && !control.ended());
    std::atomic<int> begun{0};
    const Status status = parallel_for(1000, {&process_pool(), 2, &control}, [&](std::size_t) {
        if (++begun == 10) control.cancel();
        return Status();
    });
    CHECK(status.code() == Code::cancelled && begun < 1000 && control.ended());

    const Control over(Clock::now());
    CHECK(over.ended() && over.check().code() == Code::limit);
    CHECK(parallel_for(3, {nullptr, 1, &over}, [](std::size_t) -> Status {
              return corrupt("begun");
          }).code() == Code::limit);
    const Control later(Clock::now() + std::chrono::hours(1));
    CHECK(!later.ended() && later.check().ok());
}

void budget_refuses_before_it_is_exceeded() {
    Budget budget(100);
    CHECK(budget.take(60) && !budget.take(41) && budget.held() == 60);
    CHECK(!budget.take(UINT64_MAX) && budget.take(40) && budget.held() == 100 && budget.most_held() == 100);
    budget.give_back(100);
    CHECK(budget.held() == 0 && budget.most_held() == 100 && budget.limit() == 100);
    {
        Held held(&budget, 10);
        Held other(std::move(held));
        other.add(5);
        held = std::move(other);
        CHECK(budget.held() == 15);
    }
    CHECK(budget.held() == 0);
}

/// A picture's worth of symbols in one segment, and the time from cancelling to the answer.
class LongStream {
public:
    LongStream() {
        std::vector<std::uint16_t> frequencies(17, 240);
        frequencies.back() = 256;
        const TableView table{-8, 0, frequencies};
        CHECK(Codebook::build({&table, 1}, codebook_).ok());
        for (std::size_t i = 0; i < symbols_.size(); ++i)
            symbols_[i] = static_cast<std::int32_t>(i * 2654435761U >> 13) % 8;
    }

    Status encode(const Work& work) {
        return encode_stream(*codebook_, {&table_id_, true}, symbols_.data(), shape_, {0, work},
                             kMaxSymbolsPerLane, encoded_);
    }

    Status decode(const Work& work) {
        return decode_stream(*codebook_, {&table_id_, true}, shape_, {0, work}, encoded_.bytes,
                             encoded_.directory, symbols_.data());
    }

private:
    TensorShape shape_{1, 1 << 11, 1 << 12};
    std::vector<std::int32_t> symbols_ = std::vector<std::int32_t>(shape_.places());
    std::uint8_t table_id_ = 0;
    std::shared_ptr<const Codebook> codebook_;
    EncodedStream encoded_;
};

void a_long_segment_is_cancelled() {
    LongStream stream;
    const auto begin = Clock::now();
    Budget enough(UINT64_MAX);
    CHECK(stream.encode({nullptr, 1, nullptr, &enough}).ok());
    const auto whole = Clock::now() - begin;
    CHECK(enough.held() == 0 && enough.most_held() >= std::size_t{3} << 23);

    const Control soon(Clock::now() + whole / 4);
    const auto start = Clock::now();
    CHECK(stream.encode({nullptr, 1, &soon}).code() == Code::limit);
    CHECK(Clock::now() - start < whole / 4 + std::chrono::milliseconds(200));

    const Control over(Clock::now());
    CHECK(stream.decode({nullptr, 1, &over}).code() == Code::limit && stream.decode({}).ok());

    for (const std::uint64_t share : {100U, 2U}) {
        Budget little(enough.most_held() / share);
        const Work work{nullptr, 1, nullptr, &little};
        CHECK(stream.encode(work).code() == Code::limit && little.held() == 0);
        CHECK(little.most_held() <= little.limit());
        CHECK(share == 2 || (stream.decode(work).code() == Code::limit && little.held() == 0));
    }
}

void a_chain_is_cancelled_and_counted() {
    const std::vector<float> weights(64 * 3 * 16, 0.1F), bias(3, 1.0F), scale(64, 1.0F), offset(64, 0.5F);
    native::Layer layer;
    layer.in = 64;
    layer.out = 3;
    layer.y = layer.x = {4, 4, 0};
    layer.weights = weights;
    layer.bias = bias;
    native::Chain chain;
    CHECK(native::Chain::make({&layer, 1}, native::Arithmetic::scalar, chain).ok());
    const std::vector<float> latents(std::size_t{64} * 64 * 64, 0.25F);
    const native::Input input{{{latents.data(), nullptr, scale}}, offset, 64, 64};
    std::vector<std::uint8_t> picture(std::size_t{256} * 256 * 3);
    Budget budget(std::uint64_t{1} << 30);
    CHECK(chain.run(input, 0, 255, {&process_pool(), 2, nullptr, &budget}, picture.data()).ok());
    CHECK(budget.held() == 0 && budget.most_held() > 0);
    Budget little(budget.most_held() / 8);
    CHECK(chain.run(input, 0, 255, {nullptr, 1, nullptr, &little}, picture.data()).code() == Code::limit);
    CHECK(little.held() == 0);
    Control control;
    control.cancel();
    CHECK(chain.run(input, 0, 255, {nullptr, 1, &control}, picture.data()).code() == Code::cancelled);
}

#ifdef NICRT_FORKS
/// Runs `work` in a child; false where it fails or has not ended after a minute.
template <class Function>
bool in_child(Function work) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        _exit(work() ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// While other threads are in the middle of the pool's work.
void survives_fork() {
    const auto pool = make_pool(3);
    std::atomic<bool> ending{false};
    std::vector<std::thread> others;
    for (int other = 0; other < 2; ++other)
        others.emplace_back([&] {
            while (!ending) CHECK(sum_on(*pool, 3, 30) == sum_below(30));
        });
    for (int round = 0; round < 30; ++round)
        CHECK(in_child([&] {
            return sum_on(*pool, 3, 100) == sum_below(100) && sum_on(process_pool(), 2, 9) == sum_below(9) &&
                   in_child([&] { return sum_on(*pool, 2, 10) == sum_below(10); });
        }));
    ending = true;
    for (std::thread& other : others) other.join();
    CHECK(in_child([] {
        sum_on(*make_pool(4), 4, 100);
        return true;
    }));
}

/// By the work itself, on the calling thread: the child is told that it has not all of it.
void forked_in_the_middle() {
    const auto pool = make_pool(2);
    const pid_t parent = getpid();
    const auto caller = std::this_thread::get_id();
    pid_t child = 0;
    const Status status = parallel_for(20, {pool.get(), 2}, [&](std::size_t) -> Status {
        if (getpid() == parent && child == 0 && std::this_thread::get_id() == caller) child = fork();
        return {};
    });
    if (getpid() != parent) {
        alarm(60);
        _exit(status.code() == Code::internal && sum_on(*pool, 2, 10) == sum_below(10) ? 0 : 1);
    }
    int result = 1;
    CHECK(status.ok() && (child == 0 || (waitpid(child, &result, 0) == child && result == 0)));
}
#endif

}  // namespace

int main() {
    every_index_once();
    threads_are_bounded();
    nested();
    concurrent();
    errors_are_those_of_the_lowest_index();
    control_ends_work();
    budget_refuses_before_it_is_exceeded();
    a_long_segment_is_cancelled();
    a_chain_is_cancelled_and_counted();
#ifdef NICRT_FORKS
    survives_fork();
    forked_in_the_middle();
#endif
}
