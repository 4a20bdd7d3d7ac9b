/* Signals with values: queued, waited for, told to handlers. Runs on any Linux, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigset_t set_of(int first, int second) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, first);
	if (second)
		sigaddset(&set, second);
	return set;
}

static sigset_t block(int first, int second) {
	sigset_t set = set_of(first, second);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return set;
}

static int queue(pid_t pid, int signal, int value) {
	return sigqueue(pid, signal, (union sigval){.sival_int = value});
}

static int values_of_real_time_signals_come_in_order(void) {
	int low = SIGRTMIN + 1, high = SIGRTMIN + 2;
	sigset_t set = block(low, high), waiting;
	siginfo_t info;
	for (int value = 1; value <= 3; value++)
		EXPECT(queue(getpid(), high, value) == 0);
	EXPECT(queue(getpid(), low, 9) == 0 && kill(getpid(), low) == 0);
	EXPECT(sigwaitinfo(&set, &info) == low && info.si_value.sival_int == 9 && info.si_code == SI_QUEUE);
	EXPECT(info.si_pid == getpid() && info.si_signo == low);
	EXPECT(sigwaitinfo(&set, &info) == low && info.si_code == SI_USER);
	for (int value = 1; value <= 3; value++) {
		EXPECT(sigpending(&waiting) == 0 && sigismember(&waiting, high));
		EXPECT(sigwaitinfo(&set, &info) == high && info.si_value.sival_int == value);
	}
	EXPECT(sigpending(&waiting) == 0 && !sigismember(&waiting, high));
	return 0;
}

static int another_signal_counts_once(void) {
	sigset_t set = block(SIGUSR1, 0);
	struct timespec none = {0, 0};
	siginfo_t info;
	EXPECT(queue(getpid(), SIGUSR1, 5) == 0 && queue(getpid(), SIGUSR1, 6) == 0);
	EXPECT(sigtimedwait(&set, &info, &none) == SIGUSR1 && info.si_value.sival_int == 5);
	EXPECT(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
	return 0;
}

static volatile sig_atomic_t values[8], count;
static void note(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	if (count < 8)
		values[count++] = info->si_value.sival_int;
}

static int a_handler_is_told_each_value(void) {
	struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
	sigset_t set = block(SIGRTMIN, 0);
	sigaction(SIGRTMIN, &action, NULL);
	count = 0;
	for (int value = 1; value <= 4; value++)
		queue(getpid(), SIGRTMIN, value);
	EXPECT(count == 0);
	/* The first signal's handler runs last. */
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	EXPECT(count == 4 && values[0] + values[1] + values[2] + values[3] == 10);
	EXPECT(queue(getpid(), SIGRTMIN, 7) == 0 && count == 5 && values[4] == 7);
	return 0;
}

static int a_wait_ends_by_its_time_or_another_signal(void) {
	struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct timespec before, after, time = {0, 50000000}, bad = {0, 1000000000};
	sigset_t set = block(SIGRTMIN + 3, 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	EXPECT(sigtimedwait(&set, NULL, &time) == -1 && errno == EAGAIN);
	clock_gettime(CLOCK_MONOTONIC, &after);
	EXPECT((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec >= 50000000);
	EXPECT(sigtimedwait(&set, NULL, &bad) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 16) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_rt_sigtimedwait, NULL, NULL, NULL, 8) == -1 && errno == EFAULT);
	sigaction(SIGUSR2, &action, NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		nap(30);
		kill(parent, SIGUSR2);
		_exit(0);
	}
	count = 0;
	/* musl's function would try again. */
	EXPECT(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8) == -1 && errno == EINTR && count == 1);
	EXPECT(waitpid(pid, NULL, 0) == pid);
	return 0;
}

/* The default is to ignore it, and still it can be waited for. */
static int the_end_of_a_child_is_waited_for(void) {
	sigset_t set = block(SIGCHLD, 0);
	siginfo_t info;
	for (int ms = 0; ms <= 20; ms += 20) {
		pid_t pid = fork();
		if (pid == 0) {
			nap(ms);
			_exit(6);
		}
		EXPECT(sigwaitinfo(&set, &info) == SIGCHLD && info.si_pid == pid && info.si_status == 6);
		EXPECT(waitpid(pid, NULL, 0) == pid);
	}
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return 0;
}

static volatile int sum;
static void *take(void *argument) {
	sigset_t set = set_of(SIGRTMIN + 4, SIGRTMIN + 5);
	siginfo_t info;
	(void)argument;
	while (sigwaitinfo(&set, &info) == SIGRTMIN + 4)
		__atomic_add_fetch(&sum, info.si_value.sival_int, __ATOMIC_SEQ_CST);
	return NULL;
}

/* None is lost and none counts twice, whoever takes it; who stopped waiting was told by the other signal. */
static int several_threads_wait_for_signals_to_the_process(void) {
	enum { THREADS = 4, SIGNALS = 400 };
	pthread_t threads[THREADS];
	block(SIGRTMIN + 4, SIGRTMIN + 5);
	sum = 0;
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, take, NULL) == 0);
	for (int i = 1; i <= SIGNALS; i++)
		EXPECT(queue(getpid(), SIGRTMIN + 4, i) == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(queue(getpid(), SIGRTMIN + 5, 0) == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	EXPECT(sum == SIGNALS * (SIGNALS + 1) / 2);
	return 0;
}

static int what_is_queued_has_an_end(void) {
	int signal = SIGRTMIN + 6, queued = 0;
	sigset_t set = block(signal, 0);
	struct timespec none = {0, 0};
	pid_t pid = fork();
	if (pid == 0) {
		while (queue(getpid(), signal, queued) == 0)
			queued++;
		/* kill always works, and others get their room back when this one ends. */
		_exit(errno == EAGAIN && queued > 100 && kill(getpid(), signal) == 0 ? 0 : 1);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(queue(getpid(), signal, 3) == 0 && sigtimedwait(&set, NULL, &none) == signal);
	return 0;
}

static int nobody_pretends_to_be_the_kernel(void) {
	siginfo_t info = {.si_code = SI_USER};
	sigset_t set = block(SIGUSR1, 0);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &info) == -1 && errno == EPERM);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info) == 0);
	EXPECT(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_USER);
	info.si_code = -77;
	EXPECT(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info) == 0);
	EXPECT(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == -77 && info.si_signo == SIGUSR1);
	EXPECT(syscall(SYS_rt_tgsigqueueinfo, getpid(), 1 << 22, SIGUSR1, &info) == -1 && errno == ESRCH);
	EXPECT(syscall(SYS_rt_tgsigqueueinfo, getpid(), 0, SIGUSR1, &info) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_rt_sigqueueinfo, 1 << 22, SIGUSR1, &info) == -1 && errno == ESRCH);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &info) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, NULL) == -1 && errno == EFAULT);
	EXPECT(queue(getpid(), 0, 0) == 0);
	return 0;
}

int main(int argc, char **argv) {
	static const struct test tests[] = {
#define TEST(name) {#name, name}
		TEST(values_of_real_time_signals_come_in_order),
		TEST(another_signal_counts_once),
		TEST(a_handler_is_told_each_value),
		TEST(a_wait_ends_by_its_time_or_another_signal),
		TEST(the_end_of_a_child_is_waited_for),
		TEST(several_threads_wait_for_signals_to_the_process),
		TEST(what_is_queued_has_an_end),
		TEST(nobody_pretends_to_be_the_kernel),
	};
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
