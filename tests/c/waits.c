/* epoll, eventfd, timers that send signals: what Go's runtime, libuv and tokio do. Runs on any Linux, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { ET = EPOLLET, CAPACITY = 65536 };
static void *volatile nowhere = (void *)8;
static const char self[] = "/proc/self/exe";
static atomic_int handled, last_tid;
static siginfo_t last;

static void count_it(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	last = *info;
	last_tid = gettid();
	handled++;
}

static void on(int signal, int flags) {
	struct sigaction action = {.sa_sigaction = count_it, .sa_flags = SA_SIGINFO | flags};
	sigaction(signal, &action, 0);
}

static int watch(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
	struct epoll_event event = {events, {.u64 = data}};
	return epoll_ctl(epoll, operation, fd, &event);
}

/* The events of the one file that has some within `ms`; 0 for none, a negative number for more. */
static int shown(int epoll, int ms) {
	struct epoll_event events[4];
	int count = epoll_wait(epoll, events, 4, ms);
	return count == 1 ? (int)events[0].events : -count;
}

static int refuses(long answer, int error) { return answer == -1 && errno == error; }

static int an_eventfd_counts(void) {
	uint64_t values[2], value = 0, most = UINT64_MAX - 1;
	int fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC), one = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
	EXPECT(fd >= 0 && one >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	EXPECT((fcntl(fd, F_GETFL) & ~0100000) == (O_RDWR | O_NONBLOCK));
	EXPECT(read(fd, values, 16) == 8 && values[0] == 3 && refuses(read(fd, &value, 8), EAGAIN));
	for (int left = 2; left > 0; left--)
		EXPECT(read(one, &value, 8) == 8 && value == 1);
	EXPECT(refuses(read(one, &value, 8), EAGAIN));
	EXPECT(refuses(read(fd, &value, 7), EINVAL) && refuses(write(fd, &value, 7), EINVAL));
	value = UINT64_MAX;
	EXPECT(refuses(write(fd, &value, 8), EINVAL) && write(fd, &most, 8) == 8);
	struct pollfd ask = {fd, POLLIN | POLLOUT, 0};
	EXPECT(poll(&ask, 1, 0) == 1 && ask.revents == POLLIN);
	value = 1;
	EXPECT(refuses(write(fd, &value, 8), EAGAIN) && read(fd, &value, 8) == 8 && value == most);
	EXPECT(poll(&ask, 1, 0) == 1 && ask.revents == POLLOUT);
	EXPECT(refuses(pread(fd, &value, 8, 0), ESPIPE) && refuses(pwrite(fd, &value, 8, 0), ESPIPE));
	EXPECT(lseek(fd, 5, SEEK_SET) == 0 && refuses(write(fd, nowhere, 8), EFAULT));
	EXPECT(refuses(eventfd(0, 1 << 20), EINVAL));
	close(fd), close(one);
	return 0;
}

static void *add_later(void *fd) {
	uint64_t one = 1;
	nap(10);
	return (void *)(intptr_t)write(*(int *)fd, &one, 8);
}

static int who_waits_is_woken_by_an_eventfd(void) {
	uint64_t value = 0;
	pthread_t thread;
	int fd = eventfd(0, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	EXPECT(pthread_create(&thread, 0, add_later, &fd) == 0 && read(fd, &value, 8) == 8 && value == 1);
	pthread_join(thread, 0);
	EXPECT(watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 7) == 0);
	EXPECT(pthread_create(&thread, 0, add_later, &fd) == 0 && shown(epoll, -1) == EPOLLIN);
	pthread_join(thread, 0);
	close(fd), close(epoll);
	return 0;
}

static int timerfd_has_no_positions(void) {
	uint64_t value;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	EXPECT(refuses(pread(fd, &value, 8, 0), ESPIPE) && refuses(pwrite(fd, &value, 8, 0), ESPIPE));
	EXPECT(lseek(fd, 5, SEEK_SET) == 0 && refuses(write(fd, &value, 8), EINVAL));
	close(fd);
	return 0;
}

static int a_level_is_told_until_it_goes(void) {
	char byte;
	int ends[2], epoll = epoll_create(1);
	EXPECT(pipe(ends) == 0 && watch(epoll, EPOLL_CTL_ADD, ends[0], EPOLLIN, 0) == 0);
	EXPECT(shown(epoll, 0) == 0 && write(ends[1], "ab", 2) == 2);
	EXPECT(shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == EPOLLIN);
	EXPECT(read(ends[0], &byte, 1) == 1 && shown(epoll, 0) == EPOLLIN);
	EXPECT(read(ends[0], &byte, 1) == 1 && shown(epoll, 0) == 0);
	EXPECT(watch(epoll, EPOLL_CTL_MOD, ends[0], 0, 0) == 0 && close(ends[1]) == 0);
	EXPECT(shown(epoll, 0) == EPOLLHUP);
	/* Nobody has the file any more: nobody hears of it. */
	EXPECT(close(ends[0]) == 0 && shown(epoll, 0) == 0);
	close(epoll);
	return 0;
}

static int an_edge_is_told_once(void) {
	static char much[CAPACITY];
	int ends[2], epoll = epoll_create1(0);
	EXPECT(pipe2(ends, O_NONBLOCK) == 0 && watch(epoll, EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | ET, 0) == 0);
	EXPECT(shown(epoll, 0) == 0 && write(ends[1], "a", 1) == 1);
	EXPECT(shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == 0);
	EXPECT(write(ends[1], "b", 1) == 1 && shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == 0);
	/* Reading is no news, nor is another file's. */
	EXPECT(read(ends[0], much, 1) == 1 && shown(epoll, 0) == 0);
	EXPECT(watch(epoll, EPOLL_CTL_MOD, ends[0], EPOLLIN | ET, 0) == 0 && shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == 0);
	EXPECT(read(ends[0], much, 9) == 1 && watch(epoll, EPOLL_CTL_DEL, ends[0], 0, 0) == 0);
	/* Room is news when there was none. */
	EXPECT(watch(epoll, EPOLL_CTL_ADD, ends[1], EPOLLOUT | ET, 0) == 0);
	EXPECT(shown(epoll, 0) == EPOLLOUT && shown(epoll, 0) == 0);
	EXPECT(write(ends[1], much, CAPACITY) == CAPACITY && shown(epoll, 0) == 0);
	EXPECT(read(ends[0], much, CAPACITY) == CAPACITY && shown(epoll, 0) == EPOLLOUT && shown(epoll, 0) == 0);
	EXPECT(close(ends[0]) == 0 && shown(epoll, 0) == (EPOLLOUT | EPOLLERR) && shown(epoll, 0) == 0);
	close(ends[1]), close(epoll);
	return 0;
}

static int edges_of_an_eventfd_and_a_timer(void) {
	uint64_t value = 1;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE), epoll = epoll_create1(0);
	EXPECT(watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | ET, 0) == 0 && shown(epoll, 0) == 0);
	for (int i = 0; i < 3; i++)
		EXPECT(write(fd, &value, 8) == 8 && shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == 0);
	EXPECT(read(fd, &value, 8) == 8 && value == 1 && shown(epoll, 0) == 0);
	EXPECT(watch(epoll, EPOLL_CTL_DEL, fd, 0, 0) == 0);
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec often = {{0, 10000000}, {0, 10000000}};
	EXPECT(watch(epoll, EPOLL_CTL_ADD, timer, EPOLLIN | ET, 0) == 0 && timerfd_settime(timer, 0, &often, 0) == 0);
	for (int i = 0; i < 3; i++) {
		EXPECT(shown(epoll, 1000) == EPOLLIN && shown(epoll, 0) == 0);
		EXPECT(read(timer, &value, 8) == 8 && value >= 1);
	}
	close(fd), close(timer), close(epoll);
	return 0;
}

static int once_means_once(void) {
	int ends[2], epoll = epoll_create1(0);
	EXPECT(pipe(ends) == 0 && watch(epoll, EPOLL_CTL_ADD, ends[0], EPOLLIN | EPOLLONESHOT, 0) == 0);
	EXPECT(write(ends[1], "ab", 2) == 2 && shown(epoll, 0) == EPOLLIN && shown(epoll, 0) == 0);
	EXPECT(close(ends[1]) == 0 && shown(epoll, 0) == 0);
	EXPECT(watch(epoll, EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 0) == 0);
	EXPECT(shown(epoll, 0) == (EPOLLIN | EPOLLHUP) && shown(epoll, 0) == 0);
	close(ends[0]), close(epoll);
	return 0;
}

static int many_files_get_their_turns(void) {
	enum { FILES = 20 };
	int fds[FILES], epoll = epoll_create1(0), seen[FILES] = {0};
	struct epoll_event events[7];
	for (int i = 0; i < FILES; i++) {
		fds[i] = eventfd(1, 0);
		EXPECT(watch(epoll, EPOLL_CTL_ADD, fds[i], EPOLLIN, (uint64_t)i << 40 | i) == 0);
	}
	for (int round = 0; round < 3; round++) {
		EXPECT(epoll_wait(epoll, events, 7, 0) == 7);
		for (int i = 0; i < 7; i++) {
			EXPECT(events[i].data.u64 >> 40 == (uint32_t)events[i].data.u64);
			seen[events[i].data.u64 >> 40]++;
		}
	}
	for (int i = 0; i < FILES; i++)
		EXPECT(seen[i] >= 1 && close(fds[i]) == 0);
	EXPECT(shown(epoll, 0) == 0);
	close(epoll);
	return 0;
}

static int an_epoll_is_a_file_to_wait_for(void) {
	uint64_t value = 1;
	int inner = epoll_create1(0), outer = epoll_create1(0), fd = eventfd(0, 0);
	struct pollfd ask = {inner, POLLIN, 0};
	EXPECT(watch(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 0) == 0 && watch(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 0) == 0);
	EXPECT(poll(&ask, 1, 0) == 0 && shown(outer, 0) == 0 && write(fd, &value, 8) == 8);
	EXPECT(poll(&ask, 1, 0) == 1 && ask.revents == POLLIN && shown(outer, 0) == EPOLLIN && shown(inner, 0) == EPOLLIN);
	EXPECT(read(fd, &value, 8) == 8 && shown(outer, 0) == 0);
	pthread_t thread;
	EXPECT(pthread_create(&thread, 0, add_later, &fd) == 0 && shown(outer, 5000) == EPOLLIN);
	pthread_join(thread, 0);
	EXPECT(refuses(watch(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 0), ELOOP));
	EXPECT(refuses(watch(inner, EPOLL_CTL_ADD, inner, EPOLLIN, 0), EINVAL));
	EXPECT(refuses(read(inner, &value, 8), EINVAL) && refuses(pread(inner, &value, 8, 0), ESPIPE));
	close(inner), close(outer), close(fd);
	return 0;
}

static int epoll_refuses_what_linux_refuses(void) {
	int epoll = epoll_create1(0), fd = eventfd(1, 0), file = open(self, O_RDONLY), null = open("/dev/null", O_RDWR);
	int directory = open("/", O_RDONLY);
	struct epoll_event event = {EPOLLIN, {0}};
	EXPECT(file >= 0 && null >= 0 && directory >= 0);
	for (int i = 0; i < 3; i++)
		EXPECT(refuses(watch(epoll, EPOLL_CTL_ADD, ((int[]){file, null, directory})[i], EPOLLIN, 0), EPERM));
	EXPECT(refuses(watch(99, EPOLL_CTL_ADD, fd, 0, 0), EBADF) && refuses(watch(epoll, EPOLL_CTL_ADD, 99, 0, 0), EBADF));
	EXPECT(refuses(watch(fd, EPOLL_CTL_ADD, epoll, 0, 0), EINVAL) && refuses(watch(epoll, 7, fd, 0, 0), EINVAL));
	EXPECT(refuses(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, nowhere), EFAULT));
	EXPECT(refuses(watch(epoll, EPOLL_CTL_MOD, fd, 0, 0), ENOENT) && refuses(watch(epoll, EPOLL_CTL_DEL, fd, 0, 0), ENOENT));
	EXPECT(watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 0) == 0);
	EXPECT(refuses(watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 0), EEXIST));
	int copy = dup(fd);
	EXPECT(watch(epoll, EPOLL_CTL_ADD, copy, EPOLLIN, 0) == 0 && epoll_ctl(epoll, EPOLL_CTL_DEL, copy, 0) == 0);
	EXPECT(refuses(epoll_wait(epoll, &event, 0, 0), EINVAL) && refuses(epoll_wait(fd, &event, 1, 0), EINVAL));
	EXPECT(refuses(epoll_wait(epoll, nowhere, 1, 0), EFAULT) && shown(epoll, 0) == EPOLLIN);
	EXPECT(refuses(syscall(SYS_epoll_create, 0), EINVAL) && refuses(epoll_create1(1), EINVAL));
	struct timespec bad = {0, 1000000000}, brief = {0, 5000000};
	EXPECT(refuses(syscall(SYS_epoll_pwait2, epoll, &event, 1, &bad, 0, 8), EINVAL));
	EXPECT(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0) == 0);
	long start = now_ms();
	EXPECT(syscall(SYS_epoll_pwait2, epoll, &event, 1, &brief, 0, 8) == 0 && now_ms() - start >= 4);
	close(epoll), close(fd), close(copy), close(file), close(null), close(directory);
	return 0;
}

static int a_signal_ends_a_wait_and_a_mask_lets_it_in(void) {
	int epoll = epoll_create1(0);
	struct epoll_event event;
	sigset_t blocked, none;
	sigemptyset(&none), sigemptyset(&blocked), sigaddset(&blocked, SIGUSR1);
	on(SIGUSR1, SA_RESTART);
	handled = 0;
	sigprocmask(SIG_BLOCK, &blocked, 0);
	kill(getpid(), SIGUSR1);
	EXPECT(epoll_wait(epoll, &event, 1, 5) == 0 && handled == 0);
	EXPECT(refuses(epoll_pwait(epoll, &event, 1, 5000, &none), EINTR) && handled == 1);
	EXPECT(sigprocmask(SIG_UNBLOCK, &blocked, &none) == 0 && sigismember(&none, SIGUSR1));
	EXPECT(refuses(syscall(SYS_epoll_pwait, epoll, &event, 1, 0, &none, 4), EINVAL));
	close(epoll);
	return 0;
}

static int intervals_send_their_signals(void) {
	struct itimerval often = {{0, 5000}, {0, 5000}}, old, no = {{0, 0}, {0, 0}};
	on(SIGALRM, SA_RESTART), on(SIGPROF, SA_RESTART), on(SIGVTALRM, SA_RESTART);
	handled = 0;
	EXPECT(setitimer(ITIMER_REAL, &often, 0) == 0);
	while (handled < 5)
		pause();
	EXPECT(last.si_signo == SIGALRM && last.si_code == SI_KERNEL);
	EXPECT(getitimer(ITIMER_REAL, &old) == 0 && old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 5000);
	EXPECT(setitimer(ITIMER_REAL, &no, &old) == 0 && old.it_interval.tv_usec == 5000);
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		handled = 0;
		EXPECT(setitimer(which, &often, 0) == 0);
		while (handled < 3)
			;
		EXPECT(last.si_signo == (which == ITIMER_PROF ? SIGPROF : SIGVTALRM) && setitimer(which, &no, 0) == 0);
	}
	often.it_value.tv_usec = 1000000;
	EXPECT(refuses(setitimer(ITIMER_REAL, &often, 0), EINVAL) && refuses(setitimer(3, &no, 0), EINVAL));
	EXPECT(refuses(syscall(SYS_setitimer, ITIMER_REAL, nowhere, 0), EFAULT));
	return 0;
}

static int an_alarm_kills_who_does_not_expect_it(void) {
	int status;
	EXPECT(alarm(100) == 0 && alarm(50) == 100);
	pid_t pid = fork();
	if (pid == 0) {
		/* Not inherited. */
		if (alarm(0) != 0)
			_exit(1);
		signal(SIGALRM, SIG_DFL);
		ualarm(5000, 0);
		for (;;)
			pause();
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
	EXPECT(alarm(0) == 50);
	/* execve leaves it. */
	pid = fork();
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		ualarm(30000, 0);
		execl(self, self, "sleep", (char *)0);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
	return 0;
}

static int timers_tell_whom_they_are_for(void) {
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_ptr = &event};
	struct itimerspec often = {{0, 2000000}, {0, 1}}, left, no = {{0, 0}, {0, 0}}, then = {{0, 0}, {0, 0}};
	timer_t timer, other;
	on(SIGUSR1, SA_RESTART), on(SIGALRM, SA_RESTART);
	handled = 0;
	EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, 0) == 0);
	while (handled < 3)
		pause();
	EXPECT(last.si_code == SI_TIMER && last.si_value.sival_ptr == &event && timer_getoverrun(timer) >= 0);
	EXPECT(timer_gettime(timer, &left) == 0 && left.it_interval.tv_nsec == 2000000 && left.it_value.tv_nsec <= 2000000);
	EXPECT(timer_settime(timer, 0, &no, &left) == 0 && left.it_interval.tv_nsec == 2000000);
	EXPECT(timer_gettime(timer, &left) == 0 && left.it_value.tv_nsec == 0 && timer_delete(timer) == 0);
	/* Without an event it is SIGALRM; a time on a clock. */
	EXPECT(timer_create(CLOCK_REALTIME, 0, &other) == 0 && clock_gettime(CLOCK_REALTIME, &then.it_value) == 0);
	handled = 0;
	EXPECT(timer_settime(other, TIMER_ABSTIME, &then, 0) == 0);
	while (handled < 1)
		sched_yield();
	EXPECT(last.si_signo == SIGALRM && last.si_code == SI_TIMER && timer_delete(other) == 0);
	EXPECT(refuses(syscall(SYS_timer_delete, 12345), EINVAL) && refuses(syscall(SYS_timer_settime, -1, 0, &no, 0), EINVAL));
	EXPECT(refuses(syscall(SYS_timer_settime, -1, 0, 0, 0), EINVAL));
	EXPECT(refuses(syscall(SYS_timer_create, 99, 0, &timer), EINVAL));
	event.sigev_signo = -SIGUSR1;
	EXPECT(refuses(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer), EINVAL));
	event.sigev_signo = 65;
	EXPECT(refuses(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer), EINVAL));
	return 0;
}

static int a_timer_counts_what_waits(void) {
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec often = {{0, 20000000}, {0, 20000000}};
	timer_t timer;
	sigset_t blocked;
	siginfo_t info;
	sigemptyset(&blocked), sigaddset(&blocked, SIGRTMIN);
	on(SIGRTMIN, 0);
	EXPECT(sigprocmask(SIG_BLOCK, &blocked, 0) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	EXPECT(timer_settime(timer, 0, &often, 0) == 0);
	nap(150);
	EXPECT(sigwaitinfo(&blocked, &info) == SIGRTMIN && info.si_code == SI_TIMER && timer_getoverrun(timer) >= 4);
	EXPECT(timer_delete(timer) == 0 && sigprocmask(SIG_UNBLOCK, &blocked, 0) == 0);
	return 0;
}

static void call_it(union sigval value) { *(atomic_int *)value.sival_ptr += 1; }

static int a_timer_calls_a_function(void) {
	atomic_int calls = 0;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_ptr = &calls};
	struct itimerspec often = {{0, 2000000}, {0, 2000000}};
	timer_t timer;
	event.sigev_notify_function = call_it;
	EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &often, 0) == 0);
	while (calls < 3)
		nap(1);
	EXPECT(timer_delete(timer) == 0);
	nap(10);
	/* Several at the same time, once each: all send the same signal. */
	enum { TIMERS = 4 };
	timer_t timers[TIMERS];
	struct itimerspec then = {{0, 0}, {0, 0}};
	calls = 0;
	long start = now_ms() + 50;
	then.it_value = (struct timespec){start / 1000, start % 1000 * 1000000};
	for (int i = 0; i < TIMERS; i++)
		EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timers[i]) == 0 && timer_settime(timers[i], TIMER_ABSTIME, &then, 0) == 0);
	for (int i = 0; i < 3000 && calls < TIMERS; i++)
		nap(1);
	EXPECT(calls == TIMERS);
	for (int i = 0; i < TIMERS; i++)
		EXPECT(timer_delete(timers[i]) == 0);
	nap(10);
	return 0;
}

/* A standard signal waits once for each timer that sends it. */
static int timers_do_not_stand_in_for_each_other(void) {
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec soon = {{0, 0}, {0, 1000000}};
	timer_t timers[2];
	sigset_t blocked;
	siginfo_t info;
	sigemptyset(&blocked), sigaddset(&blocked, SIGUSR1);
	on(SIGUSR1, 0);
	EXPECT(sigprocmask(SIG_BLOCK, &blocked, 0) == 0);
	for (int i = 0; i < 2; i++) {
		event.sigev_value.sival_int = i + 1;
		EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timers[i]) == 0 && timer_settime(timers[i], 0, &soon, 0) == 0);
	}
	nap(30);
	int told = 0;
	for (int i = 0; i < 2; i++) {
		EXPECT(sigwaitinfo(&blocked, &info) == SIGUSR1 && info.si_code == SI_TIMER);
		told += info.si_value.sival_int;
	}
	EXPECT(told == 3 && timer_delete(timers[0]) == 0 && timer_delete(timers[1]) == 0);
	EXPECT(sigprocmask(SIG_UNBLOCK, &blocked, 0) == 0);
	return 0;
}

static atomic_int busy;

/* Go's profiler: each thread has a timer of its own CPU time, whose signal only it gets. */
static void *profiled(void *bad) {
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
	struct itimerspec often = {{0, 3000000}, {0, 3000000}};
	int timer, before = handled;
	event.sigev_notify_thread_id = gettid();
	if (syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &event, &timer) || syscall(SYS_timer_settime, timer, 0, &often, 0))
		return bad;
	while (handled - before < 4)
		;
	int ours = last_tid == gettid();
	busy = 0;
	return syscall(SYS_timer_delete, timer) == 0 && ours ? 0 : bad;
}

static int a_thread_gets_its_own_timers_signals(void) {
	static char bad;
	pthread_t thread;
	void *result = &bad;
	on(SIGPROF, SA_RESTART | SA_ONSTACK);
	busy = 1;
	EXPECT(pthread_create(&thread, 0, profiled, &bad) == 0);
	while (busy)
		sched_yield();
	EXPECT(pthread_join(thread, &result) == 0 && result == 0);
	return 0;
}

/* Go's scheduler stops a loop without calls by SIGURG, on a stack of the thread's own. */
static void *loops(void *stop) {
	stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
	sigaltstack(&stack, 0);
	while (!atomic_load((atomic_int *)stop))
		;
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, 0);
	free(stack.ss_sp);
	return 0;
}

static int loops_are_interrupted(void) {
	enum { THREADS = 3, SIGNALS = 20 };
	pthread_t threads[THREADS];
	atomic_int stop = 0;
	on(SIGURG, SA_ONSTACK | SA_RESTART);
	handled = 0;
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], 0, loops, &stop) == 0);
	for (int i = 0; i < SIGNALS; i++) {
		int before = handled;
		EXPECT(pthread_kill(threads[i % THREADS], SIGURG) == 0);
		while (handled == before)
			sched_yield();
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], 0) == 0);
	EXPECT(handled == SIGNALS);
	return 0;
}

static void *writes(void *ends) {
	for (int i = 0; i < 20000; i++)
		while (write(((int *)ends)[1], "x", 1) != 1)
			sched_yield();
	close(((int *)ends)[1]);
	return 0;
}

/* What Go's network poller does, several threads at once. */
static int edges_are_never_lost(void) {
	enum { PIPES = 4 };
	int ends[PIPES][2], epoll = epoll_create1(0), open = PIPES;
	long total = 0;
	char bytes[100];
	pthread_t threads[PIPES];
	for (int i = 0; i < PIPES; i++) {
		EXPECT(pipe2(ends[i], O_NONBLOCK) == 0);
		EXPECT(watch(epoll, EPOLL_CTL_ADD, ends[i][0], EPOLLIN | EPOLLRDHUP | ET, i) == 0);
		EXPECT(pthread_create(&threads[i], 0, writes, ends[i]) == 0);
	}
	while (open > 0) {
		struct epoll_event events[PIPES];
		int count = epoll_wait(epoll, events, PIPES, 10000);
		EXPECT(count > 0);
		for (int i = 0; i < count; i++) {
			ssize_t len;
			while ((len = read(ends[events[i].data.u32][0], bytes, sizeof bytes)) > 0)
				total += len;
			if (len == 0) {
				close(ends[events[i].data.u32][0]);
				open--;
			}
		}
	}
	for (int i = 0; i < PIPES; i++)
		pthread_join(threads[i], 0);
	EXPECT(total == PIPES * 20000);
	close(epoll);
	return 0;
}

static int a_timer_leaves_others_their_turn(void) {
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	struct itimerspec always = {{0, 1}, {0, 1}};
	timer_t timers[8];
	for (int i = 0; i < 8; i++)
		EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timers[i]) == 0 && timer_settime(timers[i], 0, &always, 0) == 0);
	for (int i = 0; i < 5; i++)
		nap(1);
	/* The rest goes with the process. */
	for (int i = 0; i < 4; i++)
		EXPECT(timer_delete(timers[i]) == 0);
	return 0;
}

static const struct test tests[] = {
	{"an eventfd counts", an_eventfd_counts},
	{"who waits is woken by an eventfd", who_waits_is_woken_by_an_eventfd},
	{"timerfd has no positions", timerfd_has_no_positions},
	{"a level is told until it goes", a_level_is_told_until_it_goes},
	{"an edge is told once", an_edge_is_told_once},
	{"edges of an eventfd and a timer", edges_of_an_eventfd_and_a_timer},
	{"EPOLLONESHOT means once", once_means_once},
	{"many files get their turns", many_files_get_their_turns},
	{"an epoll is a file to wait for", an_epoll_is_a_file_to_wait_for},
	{"epoll refuses what Linux refuses", epoll_refuses_what_linux_refuses},
	{"a signal ends a wait, and a mask lets it in", a_signal_ends_a_wait_and_a_mask_lets_it_in},
	{"edges are never lost", edges_are_never_lost},
	{"intervals send their signals", intervals_send_their_signals},
	{"an alarm kills who does not expect it", an_alarm_kills_who_does_not_expect_it},
	{"timers tell whom they are for", timers_tell_whom_they_are_for},
	{"a timer counts what waits", a_timer_counts_what_waits},
	{"a timer calls a function", a_timer_calls_a_function},
	{"timers do not stand in for each other", timers_do_not_stand_in_for_each_other},
	{"a thread gets its own timer's signals", a_thread_gets_its_own_timers_signals},
	{"loops are interrupted", loops_are_interrupted},
	{"a timer leaves others their turn", a_timer_leaves_others_their_turn},
};

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "sleep") == 0)
		for (;;)
			pause();
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
