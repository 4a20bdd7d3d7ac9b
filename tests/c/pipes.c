/* Pipes, waiting for files, timers as files. Runs on any Linux, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 65536 };
extern char **environ;
static const char *self;
/* Not known to the compiler, which would object. */
static void *volatile nowhere = (void *)8, *volatile nothing;
static volatile int handled;

static void count_it(int signal) {
	(void)signal;
	handled++;
}

static void on(int signal, void (*handler)(int), int flags) {
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	sigaction(signal, &action, 0);
}

static int exit_status(pid_t pid) {
	int status;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int a_megabyte_goes_through_a_pipeline(void) {
	enum { COUNT = 1 << 20 };
	int in[2], out[2];
	EXPECT(pipe(in) == 0 && pipe(out) == 0);
	pid_t writer = fork();
	if (writer == 0) {
		static unsigned char bytes[COUNT];
		for (int i = 0; i < COUNT; i++)
			bytes[i] = i * 7 + i / 251;
		_exit(write(in[1], bytes, COUNT) == COUNT ? 0 : 1);
	}
	pid_t middle = fork();
	if (middle == 0) {
		char bytes[3000];
		ssize_t len;
		close(in[1]);
		while ((len = read(in[0], bytes, sizeof bytes)) > 0)
			if (write(out[1], bytes, len) != len)
				_exit(1);
		_exit(len == 0 ? 0 : 2);
	}
	close(in[0]), close(in[1]), close(out[1]);
	int at = 0;
	unsigned char bytes[5000];
	ssize_t len;
	while ((len = read(out[0], bytes, sizeof bytes)) > 0)
		for (int i = 0; i < len; i++, at++)
			EXPECT(bytes[i] == (unsigned char)(at * 7 + at / 251));
	EXPECT(len == 0 && at == COUNT);
	EXPECT(exit_status(writer) == 0 && exit_status(middle) == 0);
	close(out[0]);
	return 0;
}

static int a_write_that_nobody_reads_is_sigpipe_or_epipe(void) {
	int ends[2], status;
	EXPECT(pipe(ends) == 0 && close(ends[0]) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		write(ends[1], "x", 1);
		_exit(1);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	on(SIGPIPE, SIG_IGN, 0);
	EXPECT(write(ends[1], "x", 1) == -1 && errno == EPIPE);
	EXPECT(write(ends[1], "x", 0) == 0);
	struct pollfd ask = {ends[1], POLLOUT, 0};
	EXPECT(poll(&ask, 1, 0) == 1 && ask.revents == (POLLOUT | POLLERR));
	on(SIGPIPE, SIG_DFL, 0);
	close(ends[1]);
	/* Also when it is full. */
	static char much[65536];
	EXPECT(pipe(ends) == 0 && write(ends[1], much, sizeof much) == sizeof much && close(ends[0]) == 0);
	ask.fd = ends[1];
	EXPECT(poll(&ask, 1, 1000) == 1 && ask.revents == POLLERR);
	close(ends[1]);
	return 0;
}

static int a_writer_that_waits_learns_that_the_reader_went(void) {
	int ends[2];
	EXPECT(pipe(ends) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		static char bytes[2 * CAPACITY];
		on(SIGPIPE, SIG_IGN, 0);
		close(ends[0]);
		_exit(write(ends[1], bytes, sizeof bytes) == CAPACITY && write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0
		                                                                                                        : 1);
	}
	nap(20);
	close(ends[0]), close(ends[1]);
	EXPECT(exit_status(pid) == 0);
	return 0;
}

static int nonblock_means_eagain(void) {
	static char bytes[CAPACITY];
	int ends[2];
	EXPECT(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
	EXPECT(fcntl(ends[0], F_GETFD) == FD_CLOEXEC && (fcntl(ends[1], F_GETFL) & ~0100000) == (O_WRONLY | O_NONBLOCK));
	EXPECT(read(ends[0], bytes, 1) == -1 && errno == EAGAIN);
	EXPECT(write(ends[1], bytes, CAPACITY - 4000) == CAPACITY - 4000);
	/* All or nothing of a page, what fits of more. */
	EXPECT(write(ends[1], bytes, 4096) == -1 && errno == EAGAIN);
	EXPECT(write(ends[1], bytes, 4097) >= 0);
	while (write(ends[1], bytes, 1) == 1)
		;
	EXPECT(errno == EAGAIN);
	int waiting = 0;
	EXPECT(ioctl(ends[0], FIONREAD, &waiting) == 0 && waiting >= CAPACITY - 4096 && waiting <= CAPACITY);
	struct pollfd ask = {ends[1], POLLOUT, 0};
	EXPECT(poll(&ask, 1, 0) == 0);
	while (read(ends[0], bytes, sizeof bytes) > 0)
		;
	EXPECT(errno == EAGAIN);
	EXPECT(poll(&ask, 1, 0) == 1 && ask.revents == POLLOUT);
	/* The flag belongs to the open file, and may change. */
	EXPECT(fcntl(ends[0], F_SETFL, 0) == 0 && write(ends[1], "x", 1) == 1 && read(ends[0], bytes, 9) == 1);
	close(ends[0]), close(ends[1]);
	return 0;
}

static int bad_arguments_have_linux_errnos(void) {
	int ends[2], more[2];
	char byte, bytes[100];
	struct stat stat;
	EXPECT(pipe2(ends, O_APPEND) == -1 && errno == EINVAL);
	EXPECT(pipe(ends) == 0);
	/* A pipe that cannot be told leaves no descriptor. */
	EXPECT(syscall(SYS_pipe2, nowhere, 0) == -1 && errno == EFAULT);
	EXPECT(pipe(more) == 0 && more[0] == ends[1] + 1);
	close(more[0]), close(more[1]);
	EXPECT(read(ends[1], &byte, 1) == -1 && errno == EBADF);
	EXPECT(write(ends[0], &byte, 1) == -1 && errno == EBADF);
	EXPECT(lseek(ends[0], 0, SEEK_SET) == -1 && errno == ESPIPE);
	EXPECT(pread(ends[0], &byte, 1, 0) == -1 && errno == ESPIPE);
	EXPECT(mmap(0, 4096, PROT_READ, MAP_SHARED, ends[0], 0) == MAP_FAILED && errno == ENODEV);
	EXPECT(ftruncate(ends[1], 0) == -1 && errno == EINVAL);
	EXPECT(fstat(ends[0], &stat) == 0 && S_ISFIFO(stat.st_mode));
	EXPECT(write(ends[1], nowhere, 5) == -1 && errno == EFAULT);
	EXPECT(write(ends[1], (char *)nothing - 9, 5) == -1 && errno == EFAULT);
	EXPECT(write(ends[1], "hello", 5) == 5);
	EXPECT(read(ends[0], nowhere, 5) == -1 && errno == EFAULT);
	EXPECT(read(ends[0], bytes, 0) == 0);
	EXPECT(read(ends[0], bytes, sizeof bytes) == 5 && memcmp(bytes, "hello", 5) == 0);
	struct iovec part = {"spliced", 7};
	EXPECT(vmsplice(ends[1], &part, 1, 0) == 7);
	EXPECT(read(ends[0], bytes, sizeof bytes) == 7 && memcmp(bytes, "spliced", 7) == 0);
	EXPECT(vmsplice(0, &part, 1, 0) == -1 && errno == EBADF);
	EXPECT(poll(nowhere, 1, 0) == -1 && errno == EFAULT);
	EXPECT(poll(nothing, 100000, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_select, -1, 0, 0, 0, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_select, 5, 8, 0, 0, 0) == -1 && errno == EFAULT);
	close(ends[0]), close(ends[1]);
	return 0;
}

static int vectors_are_written_whole(void) {
	enum { WRITERS = 4, ROUNDS = 200, LEN = 700 };
	int ends[2];
	EXPECT(pipe(ends) == 0);
	for (int writer = 0; writer < WRITERS; writer++) {
		if (fork() == 0) {
			char bytes[LEN];
			memset(bytes, 'a' + writer, LEN);
			struct iovec parts[] = {{bytes, 1}, {bytes, LEN - 2}, {bytes, 1}};
			for (int round = 0; round < ROUNDS; round++)
				if (writev(ends[1], parts, 3) != LEN)
					_exit(1);
			_exit(0);
		}
	}
	close(ends[1]);
	char bytes[LEN];
	struct iovec parts[] = {{bytes, 300}, {bytes + 300, LEN - 300}};
	for (int round = 0; round < WRITERS * ROUNDS; round++) {
		EXPECT(readv(ends[0], parts, 2) == LEN);
		for (int i = 1; i < LEN; i++)
			EXPECT(bytes[i] == bytes[0]);
	}
	EXPECT(readv(ends[0], parts, 2) == 0);
	for (int writer = 0; writer < WRITERS; writer++) {
		int status;
		EXPECT(wait(&status) > 0 && status == 0);
	}
	close(ends[0]);
	return 0;
}

static int poll_waits_for_what_it_is_asked(void) {
	int ends[2];
	char byte;
	EXPECT(pipe(ends) == 0);
	struct pollfd ask[] = {{ends[0], POLLIN, 0}, {-1, POLLIN, 7}, {999, POLLIN, 0}};
	EXPECT(poll(ask, 3, 0) == 1 && ask[0].revents == 0 && ask[1].revents == 0 && ask[2].revents == POLLNVAL);
	long start = now_ms();
	EXPECT(poll(ask, 2, 30) == 0 && now_ms() - start >= 29);
	pid_t pid = fork();
	if (pid == 0) {
		nap(20);
		_exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
	}
	EXPECT(poll(ask, 2, 10000) == 1 && ask[0].revents == POLLIN);
	EXPECT(read(ends[0], &byte, 1) == 1 && exit_status(pid) == 0);
	pid = fork();
	if (pid == 0) {
		nap(20);
		_exit(0);
	}
	close(ends[1]);
	EXPECT(poll(ask, 1, -1) == 1 && ask[0].revents == POLLHUP);
	EXPECT(exit_status(pid) == 0);
	close(ends[0]);
	return 0;
}

static int select_tells_who_is_ready_and_what_time_is_left(void) {
	int ends[2];
	EXPECT(pipe(ends) == 0);
	fd_set in, out;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(ends[0], &in);
	FD_SET(ends[1], &out);
	struct timeval time = {5, 0};
	EXPECT(syscall(SYS_select, ends[1] + 1, &in, &out, 0, &time) == 1);
	EXPECT(!FD_ISSET(ends[0], &in) && FD_ISSET(ends[1], &out) && time.tv_sec == 4);
	FD_SET(ends[0], &in);
	struct timespec short_time = {0, 20000000};
	EXPECT(syscall(SYS_pselect6, ends[0] + 1, &in, 0, 0, &short_time, 0) == 0);
	EXPECT(!FD_ISSET(ends[0], &in) && short_time.tv_nsec == 0);
	FD_SET(ends[0], &in);
	EXPECT(write(ends[1], "x", 1) == 1);
	EXPECT(select(ends[0] + 1, &in, 0, 0, 0) == 1 && FD_ISSET(ends[0], &in));
	FD_SET(ends[1] + 1, &in);
	EXPECT(select(ends[1] + 2, &in, 0, 0, 0) == -1 && errno == EBADF);
	/* The signal is let in only while it waits. */
	sigset_t usr1, none;
	sigemptyset(&usr1), sigemptyset(&none), sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, 0);
	on(SIGUSR1, count_it, SA_RESTART);
	handled = 0;
	raise(SIGUSR1);
	EXPECT(handled == 0 && pselect(0, 0, 0, 0, 0, &none) == -1 && errno == EINTR && handled == 1);
	raise(SIGUSR1);
	EXPECT(ppoll(0, 0, 0, &none) == -1 && errno == EINTR && handled == 2);
	struct timespec at_once = {0, 0};
	raise(SIGUSR1);
	EXPECT(pselect(0, 0, 0, 0, &at_once, &none) == -1 && errno == EINTR && handled == 3);
	sigset_t now;
	sigprocmask(SIG_UNBLOCK, &usr1, &now);
	EXPECT(sigismember(&now, SIGUSR1));
	close(ends[0]), close(ends[1]);
	return 0;
}

static int a_signal_ends_a_read_or_starts_it_again(void) {
	int ends[2];
	char bytes[10];
	EXPECT(pipe(ends) == 0);
	for (int flags = 0;; flags = SA_RESTART) {
		on(SIGUSR1, count_it, flags);
		handled = 0;
		pid_t parent = getpid(), pid = fork();
		if (pid == 0) {
			nap(20);
			kill(parent, SIGUSR1);
			nap(20);
			_exit(write(ends[1], "late", 4) == 4 ? 0 : 1);
		}
		ssize_t len = read(ends[0], bytes, sizeof bytes);
		EXPECT(flags ? len == 4 : len == -1 && errno == EINTR);
		EXPECT(handled == 1);
		EXPECT(exit_status(pid) == 0);
		if (flags)
			break;
		EXPECT(read(ends[0], bytes, sizeof bytes) == 4);
	}
	close(ends[0]), close(ends[1]);
	return 0;
}

static int what_a_signal_interrupts_half_way_counts(void) {
	static char bytes[2 * CAPACITY];
	int ends[2];
	EXPECT(pipe(ends) == 0);
	on(SIGUSR1, count_it, SA_RESTART);
	handled = 0;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		nap(20);
		kill(parent, SIGUSR1);
		_exit(0);
	}
	EXPECT(write(ends[1], bytes, sizeof bytes) == CAPACITY && handled == 1);
	EXPECT(exit_status(pid) == 0);
	close(ends[0]), close(ends[1]);
	return 0;
}

static int a_timer_is_a_file(void) {
	unsigned long long count;
	struct itimerspec spec = {{0, 0}, {0, 20000000}}, left;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	EXPECT(fd >= 0 && read(fd, &count, 8) == -1 && errno == EAGAIN);
	EXPECT(timerfd_settime(fd, 0, &spec, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
	EXPECT(timerfd_gettime(fd, &left) == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20000000);
	struct pollfd ask = {fd, POLLIN, 0};
	long start = now_ms();
	EXPECT(poll(&ask, 1, 10000) == 1 && ask.revents == POLLIN && now_ms() - start >= 15 && now_ms() - start < 5000);
	EXPECT(read(fd, &count, 4) == -1 && errno == EINVAL);
	EXPECT(read(fd, &count, 8) == 8 && count == 1);
	EXPECT(read(fd, &count, 8) == -1 && errno == EAGAIN);
	/* Again and again; a read that waits. */
	spec.it_interval.tv_nsec = 10000000;
	EXPECT(timerfd_settime(fd, 0, &spec, 0) == 0 && fcntl(fd, F_SETFL, 0) == 0);
	EXPECT(read(fd, &count, 8) == 8 && count >= 1);
	nap(50);
	EXPECT(read(fd, &count, 8) == 8 && count >= 4);
	/* A time that has passed; none at all. */
	struct itimerspec past = {{0, 0}, {0, 1}}, none = {{0, 0}, {0, 0}};
	EXPECT(timerfd_settime(fd, TFD_TIMER_ABSTIME, &past, 0) == 0 && poll(&ask, 1, 0) == 1);
	EXPECT(timerfd_settime(fd, 0, &none, 0) == 0 && poll(&ask, 1, 20) == 0);
	past.it_value.tv_nsec = 1000000000;
	EXPECT(timerfd_settime(fd, 0, &past, 0) == -1 && errno == EINVAL);
	EXPECT(timerfd_settime(fd, 0, nowhere, 0) == -1 && errno == EFAULT);
	EXPECT(timerfd_settime(0, 0, &none, 0) == -1 && errno == EINVAL);
	EXPECT(timerfd_create(77, 0) == -1 && errno == EINVAL);
	EXPECT(timerfd_create(CLOCK_REALTIME, 1) == -1 && errno == EINVAL);
	close(fd);
	return 0;
}

/* As fio's helper thread does: it waits for a pipe and a timer, both at once. */
static void *helper(void *argument) {
	int *ends = argument, timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	long ticks = 0, bytes = 0;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	for (;;) {
		struct itimerspec spec = {{0, 0}, {0, 5000000}};
		timerfd_settime(timer, 0, &spec, 0);
		fd_set in, except;
		FD_ZERO(&in);
		FD_ZERO(&except);
		FD_SET(ends[0], &in);
		FD_SET(timer, &in);
		FD_SET(ends[0], &except);
		if (select((ends[0] > timer ? ends[0] : timer) + 1, &in, 0, &except, 0) <= 0)
			return 0;
		unsigned long long count;
		char byte;
		if (FD_ISSET(timer, &in))
			ticks += read(timer, &count, 8) == 8;
		if (read(ends[0], &byte, 1) == 1) {
			bytes++;
			if (byte == 'q')
				break;
		}
	}
	close(timer);
	return (void *)(ticks * 1000 + bytes);
}

static int a_thread_waits_for_a_pipe_and_a_timer(void) {
	int ends[2];
	pthread_t thread;
	void *result;
	EXPECT(pipe(ends) == 0 && pthread_create(&thread, 0, helper, ends) == 0);
	for (int i = 0; i < 9; i++) {
		EXPECT(write(ends[1], "x", 1) == 1);
		nap(7);
	}
	EXPECT(write(ends[1], "q", 1) == 1);
	EXPECT(pthread_join(thread, &result) == 0);
	EXPECT((long)result % 1000 == 10 && (long)result / 1000 >= 5);
	close(ends[0]), close(ends[1]);
	return 0;
}

static int a_spawned_program_writes_to_a_pipe(void) {
	int ends[2];
	pid_t pid;
	char bytes[10];
	EXPECT(pipe2(ends, O_CLOEXEC) == 0);
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
	char *argv[] = {(char *)self, "--say", 0};
	EXPECT(posix_spawn(&pid, self, &actions, 0, argv, environ) == 0);
	close(ends[1]);
	EXPECT(read(ends[0], bytes, sizeof bytes) == 4 && memcmp(bytes, "said", 4) == 0);
	EXPECT(read(ends[0], bytes, sizeof bytes) == 0 && exit_status(pid) == 0);
	EXPECT(posix_spawn(&pid, "/nowhere", 0, 0, argv, environ) == ENOENT);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	return 0;
}

int main(int argc, char **argv) {
	static const struct test tests[] = {
#define TEST(name) {#name, name}
		TEST(a_megabyte_goes_through_a_pipeline),
		TEST(a_write_that_nobody_reads_is_sigpipe_or_epipe),
		TEST(a_writer_that_waits_learns_that_the_reader_went),
		TEST(nonblock_means_eagain),
		TEST(bad_arguments_have_linux_errnos),
		TEST(vectors_are_written_whole),
		TEST(poll_waits_for_what_it_is_asked),
		TEST(select_tells_who_is_ready_and_what_time_is_left),
		TEST(a_signal_ends_a_read_or_starts_it_again),
		TEST(what_a_signal_interrupts_half_way_counts),
		TEST(a_timer_is_a_file),
		TEST(a_thread_waits_for_a_pipe_and_a_timer),
		TEST(a_spawned_program_writes_to_a_pipe),
	};
	self = "/proc/self/exe";
	if (argc > 1 && strcmp(argv[1], "--say") == 0)
		return write(1, "said", 4) != 4;
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
