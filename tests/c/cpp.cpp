// C++: exceptions, threads, iostreams. Runs on any Linux, too.
#include "ktap.h"
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <future>
#include <iomanip>
#include <iostream>
#include <memory>
#include <mutex>
#include <queue>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

struct Guard {
	std::atomic<int> &count;
	~Guard() { count++; }
};

static void fall(int depth, std::atomic<int> &count) {
	Guard guard{count};
	if (depth == 0)
		throw std::out_of_range("the ground");
	fall(depth - 1, count);
}

static int exceptions_unwind_in_every_thread() {
	std::atomic<int> unwound{0}, caught{0};
	std::vector<std::thread> threads;
	for (int i = 0; i < 8; i++)
		threads.emplace_back([&] {
			for (int round = 0; round < 50; round++)
				try {
					fall(20, unwound);
				} catch (const std::exception &error) {
					caught += error.what() == std::string("the ground");
				}
		});
	for (auto &thread : threads)
		thread.join();
	EXPECT(caught == 400 && unwound == 400 * 21);
	return 0;
}

static int an_exception_crosses_threads() {
	auto result = std::async(std::launch::async, []() -> int { throw std::logic_error("far away"); });
	std::string what;
	try {
		result.get();
	} catch (const std::logic_error &error) {
		what = error.what();
	}
	EXPECT(what == "far away");
	try {
		std::vector<int>(4).at(4);
	} catch (const std::out_of_range &) {
		return 0;
	}
	return __LINE__;
}

static int a_queue_passes_all_between_threads() {
	std::queue<int> queue;
	std::mutex mutex;
	std::condition_variable filled, drained;
	long sum = 0;
	std::thread consumer([&] {
		for (int value = 1; value;) {
			std::unique_lock lock(mutex);
			filled.wait(lock, [&] { return !queue.empty(); });
			sum += value = queue.front();
			queue.pop();
			drained.notify_one();
		}
	});
	for (int value = 2000; value >= 0; value--) {
		std::unique_lock lock(mutex);
		drained.wait(lock, [&] { return queue.size() < 16; });
		queue.push(value);
		filled.notify_one();
	}
	consumer.join();
	EXPECT(sum == 2000 * 2001 / 2);
	return 0;
}

static std::atomic<int> destroyed{0};
struct Counted {
	int value = 1;
	~Counted() { destroyed += value; }
};
static thread_local Counted counted;

static int threads_wait_by_atomics_and_destroy_what_is_theirs() {
	std::atomic<int> word{0};
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&] {
			counted.value = 10;
			word.wait(0);
		});
	std::this_thread::sleep_for(10ms);
	word = 1;
	word.notify_all();
	for (auto &thread : threads)
		thread.join();
	EXPECT(destroyed == 40);
	return 0;
}

static int streams_read_and_write() {
	std::ostringstream out;
	out << std::setw(6) << std::fixed << std::setprecision(2) << 3.14159 << ' ' << std::hex << 255 << std::boolalpha << true;
	EXPECT(out.str() == "  3.14 fftrue");
	std::ifstream maps("/proc/self/maps");
	std::string line;
	int stacks = 0;
	while (std::getline(maps, line))
		stacks += line.find("[stack]") != std::string::npos;
	EXPECT(stacks == 1);
	std::ifstream none("/none");
	EXPECT(!none && !std::ifstream("/").read(&line[0], 1));
	int number = 0;
	EXPECT(std::istringstream("12 x") >> number && number == 12);
	std::cout << "# " << std::this_thread::get_id() << std::endl;
	EXPECT(std::cout.good());
	return 0;
}

static int time_and_chance_go_on() {
	auto start = std::chrono::steady_clock::now();
	std::this_thread::sleep_for(5ms);
	EXPECT(std::chrono::steady_clock::now() - start >= 5ms);
	std::random_device device;
	EXPECT(device() != device() || device() != device());
	std::timed_mutex mutex;
	std::lock_guard held(mutex);
	auto other = std::async(std::launch::async, [&] { return mutex.try_lock_for(5ms); });
	EXPECT(!other.get());
	return 0;
}

#define CASE(name) {#name, name}
static const struct test tests[] = {
	CASE(exceptions_unwind_in_every_thread),
	CASE(an_exception_crosses_threads),
	CASE(a_queue_passes_all_between_threads),
	CASE(threads_wait_by_atomics_and_destroy_what_is_theirs),
	CASE(streams_read_and_write),
	CASE(time_and_chance_go_on),
};

int main(int argc, char **argv) {
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
