/* Threads: pthreads, futexes, signals among them. Runs on any Linux, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE = 3, FUTEX_CMP_REQUEUE, FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET };
enum { FUTEX_CLOCK_REALTIME = 256 };

static long futex(atomic_int *word, int operation, int value, void *timeout, atomic_int *second, int value3) {
	return syscall(SYS_futex, word, operation, value, timeout, second, value3);
}

static long clock_ms(clockid_t clock) {
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static _Thread_local int own;
static void *twice(void *argument) {
	own = (int)(long)argument;
	sched_yield();
	return (void *)(long)(own * 2);
}

static int threads_have_storage_of_their_own_and_join(void) {
	pthread_t threads[8];
	own = 99;
	for (long i = 0; i < 8; i++)
		EXPECT(pthread_create(&threads[i], NULL, twice, (void *)i) == 0);
	for (long i = 0; i < 8; i++) {
		void *result;
		EXPECT(pthread_join(threads[i], &result) == 0 && (long)result == i * 2);
	}
	EXPECT(own == 99);
	return 0;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int counter, turn;
static void *count(void *unused) {
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}
static int a_mutex_excludes(void) {
	pthread_t threads[4];
	counter = 0;
	for (int i = 0; i < 4; i++)
		EXPECT(pthread_create(&threads[i], NULL, count, NULL) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT(counter == 80000);
	return 0;
}

static void *answer(void *unused) {
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&mutex);
		while (turn != 1)
			pthread_cond_wait(&changed, &mutex);
		turn = 0;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&mutex);
	}
	return unused;
}
static int a_condition_passes_the_turn(void) {
	pthread_t thread;
	EXPECT(pthread_create(&thread, NULL, answer, NULL) == 0);
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&mutex);
		turn = 1;
		pthread_cond_broadcast(&changed);
		while (turn != 0)
			pthread_cond_wait(&changed, &mutex);
		pthread_mutex_unlock(&mutex);
	}
	pthread_join(thread, NULL);
	return 0;
}

static int a_futex_wait_ends_in_time(void) {
	atomic_int word = 5;
	struct timespec time = {0, 30000000};
	long start = clock_ms(CLOCK_MONOTONIC);
	EXPECT(futex(&word, FUTEX_WAIT, 5, &time, NULL, 0) == -1 && errno == ETIMEDOUT);
	EXPECT(clock_ms(CLOCK_MONOTONIC) - start >= 29);
	EXPECT(futex(&word, FUTEX_WAIT, 6, &time, NULL, 0) == -1 && errno == EAGAIN);
	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_sec += 1;
	time.tv_nsec = 0;
	start = clock_ms(CLOCK_REALTIME);
	EXPECT(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &time, NULL, 1) == -1 && errno == ETIMEDOUT);
	EXPECT(clock_ms(CLOCK_REALTIME) >= time.tv_sec * 1000L && clock_ms(CLOCK_REALTIME) - start < 1500);
	EXPECT(futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0) == -1 && errno == EINVAL);
	EXPECT(futex((atomic_int *)((char *)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0) == -1 && errno == EINVAL);
	EXPECT(futex((atomic_int *)4096, FUTEX_WAIT, 5, NULL, NULL, 0) == -1 && errno == EFAULT);
	return 0;
}

static atomic_int first, second, woken, asleep;
static void *wait_with_bit(void *bit) {
	asleep++;
	if (futex(&first, FUTEX_WAIT_BITSET, 0, NULL, NULL, (int)(long)bit) == 0)
		woken += (int)(long)bit;
	return NULL;
}
static int bits_and_queues_pick_who_wakes(void) {
	pthread_t threads[4];
	first = second = woken = asleep = 0;
	for (int i = 0; i < 4; i++)
		EXPECT(pthread_create(&threads[i], NULL, wait_with_bit, (void *)(1L << i)) == 0);
	while (asleep < 4)
		sched_yield();
	nap(30);
	EXPECT(futex(&first, FUTEX_WAKE_BITSET, 4, NULL, NULL, 2) == 1);
	pthread_join(threads[1], NULL);
	EXPECT(woken == 2);
	EXPECT(futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)8, &second, 7) == -1 && errno == EAGAIN);
	EXPECT(futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)8, &second, 0) == 3);
	EXPECT(futex(&first, FUTEX_WAKE, 8, NULL, NULL, 0) == 0);
	EXPECT(futex(&second, FUTEX_WAKE, 8, NULL, NULL, 0) == 2);
	for (int i = 0; i < 4; i++)
		if (i != 1)
			pthread_join(threads[i], NULL);
	EXPECT(woken == 15);
	return 0;
}

static atomic_int handled_by;
static void note(int signal) {
	(void)signal;
	handled_by = (int)syscall(SYS_gettid);
}
static atomic_int its_tid;
static void *sleep_long(void *unused) {
	its_tid = (int)syscall(SYS_gettid);
	struct timespec time = {100, 0};
	int result = nanosleep(&time, NULL);
	return result == -1 && errno == EINTR ? NULL : &its_tid + (unused != NULL);
}
static int operated[2], finished;
static void *waits_for_a_word(void *word) {
	long answer = syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, *(int *)word, NULL, NULL, 0);
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	return (void *)answer;
}
/* FUTEX_WAKE_OP; the arguments of FUTEX_OP (futex(2)). */
static long wake_op(int op, int oparg, int cmp, int cmparg) {
	int code = (op & 15) << 28 | (cmp & 15) << 24 | (oparg & 0xfff) << 12 | (cmparg & 0xfff);
	return syscall(SYS_futex, &operated[0], 5, 1, 1L, &operated[1], code);
}
static int a_wake_changes_another_word(void) {
	enum { SET, ADD, OR, ANDN, XOR, SHIFT = 8 };
	enum { EQ, NE, LT, LE, GT, GE };
	operated[1] = 5;
	EXPECT(wake_op(ADD, 3, EQ, 5) == 0 && operated[1] == 8);
	EXPECT(wake_op(OR | SHIFT, 4, LT, 0) == 0 && operated[1] == 24);
	EXPECT(wake_op(ANDN, 8, GE, 24) == 0 && operated[1] == 16);
	EXPECT(wake_op(XOR, 17, NE, 1) == 0 && operated[1] == 1);
	EXPECT(wake_op(SET, -1, LE, -5) == 0 && operated[1] == -1);
	EXPECT(wake_op(7, 0, EQ, 0) == -1 && errno == ENOSYS && operated[1] == -1);
	EXPECT(wake_op(SET, 0, 9, 0) == -1 && errno == ENOSYS);
	void *hidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	operated[1] = 5;
	EXPECT(syscall(SYS_futex, hidden, 5, 1, 1L, &operated[1], ADD << 28 | 4 << 12) == -1 && errno == EFAULT);
	EXPECT(operated[1] == 5);
	pthread_t threads[2];
	operated[1] = 0;
	for (int i = 0; i < 2; i++)
		EXPECT(pthread_create(&threads[i], NULL, waits_for_a_word, &operated[i]) == 0);
	nap(50);
	/* Not so: the first only. Then the second's. */
	EXPECT(wake_op(ADD, 1, GT, 0) == 1 && operated[1] == 1);
	EXPECT(pthread_join(threads[0], NULL) == 0 && finished == 1);
	EXPECT(wake_op(SET, 7, GT, 0) == 1 && operated[1] == 7);
	EXPECT(pthread_join(threads[1], NULL) == 0 && finished == 2);
	return 0;
}

static int signals_go_to_the_thread_they_mean(void) {
	struct sigaction action = {.sa_handler = note};
	sigaction(SIGUSR1, &action, NULL);
	pthread_t thread;
	void *result;
	its_tid = handled_by = 0;
	EXPECT(pthread_create(&thread, NULL, sleep_long, NULL) == 0);
	while (!its_tid)
		sched_yield();
	nap(10);
	EXPECT(pthread_kill(thread, SIGUSR1) == 0);
	EXPECT(pthread_join(thread, &result) == 0 && result == NULL && handled_by == its_tid);

	/* Blocked here, the process's signal goes to the other thread. */
	sigset_t set, old;
	its_tid = handled_by = 0;
	EXPECT(pthread_create(&thread, NULL, sleep_long, NULL) == 0);
	while (!its_tid)
		sched_yield();
	nap(10);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	EXPECT(kill(getpid(), SIGUSR1) == 0);
	EXPECT(pthread_join(thread, &result) == 0 && result == NULL && handled_by == its_tid);
	EXPECT(kill(getpid(), SIGUSR1) == 0);
	sigpending(&set);
	EXPECT(sigismember(&set, SIGUSR1));
	handled_by = 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	EXPECT(handled_by == getpid());
	return 0;
}

static atomic_int word_of_others;
static int kinds_of_wait;
/* Not known to the compiler, which would object. */
static int *volatile nowhere = (int *)8;
static void *wait_somehow(void *kind) {
	struct timespec time = {1000, 0};
	switch ((long)kind % 5) {
	case 0:
		for (;;)
			pause();
	case 1:
		for (;;)
			futex(&word_of_others, FUTEX_WAIT, 0, NULL, NULL, 0);
	case 2:
		nanosleep(&time, NULL);
		break;
	case 3:
		for (;;)
			sched_yield();
	default:
		for (;;)
			kinds_of_wait++;
	}
	return NULL;
}
static int the_end_of_a_process_ends_all_its_waits(void) {
	for (int way = 0; way < 3; way++) {
		pid_t pid = fork();
		if (pid == 0) {
			pthread_t thread;
			for (long i = 0; i < 10; i++)
				if (pthread_create(&thread, NULL, wait_somehow, (void *)i))
					_exit(1);
			nap(20);
			if (way == 0)
				_exit(7);
			if (way == 1)
				kinds_of_wait = *nowhere;
			pause();
		}
		if (way == 2) {
			nap(60);
			kill(pid, SIGKILL);
		}
		int status;
		EXPECT(waitpid(pid, &status, 0) == pid);
		EXPECT(way != 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 7));
		EXPECT(way != 1 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
		EXPECT(way != 2 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
	}
	return 0;
}

static void *fork_here(void *unused) {
	pid_t pid = fork();
	if (pid == 0)
		_exit(getpid() == (int)syscall(SYS_gettid) ? 3 : 4);
	int status;
	return waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3 ? unused : (void *)1;
}
static int a_fork_in_a_thread_copies_that_thread_only(void) {
	pthread_t thread, other;
	void *result;
	EXPECT(pthread_create(&other, NULL, count, NULL) == 0);
	EXPECT(pthread_create(&thread, NULL, fork_here, NULL) == 0);
	EXPECT(pthread_join(thread, &result) == 0 && result == NULL);
	pthread_join(other, NULL);
	return 0;
}

static void *run_program(void *path) {
	char *argv[] = {"threads", "--exit", "6", NULL}, *envp[] = {NULL};
	execve(path, argv, envp);
	return NULL;
}
static int execve_in_a_thread_ends_the_others(void) {
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		for (long i = 0; i < 5; i++)
			pthread_create(&thread, NULL, wait_somehow, (void *)i);
		pthread_create(&thread, NULL, run_program, "/proc/self/exe");
		for (;;)
			pause();
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 6);
	return 0;
}

static int the_first_thread_may_leave_first(void) {
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		pthread_create(&thread, NULL, count, NULL);
		pthread_create(&thread, NULL, sleep_long, NULL);
		pthread_kill(thread, 0);
		nap(5);
		its_tid = 0;
		pthread_create(&thread, NULL, twice, NULL);
		pthread_detach(thread);
		if (fork() == 0) {
			nap(20);
			kill(getppid(), SIGTERM);
			_exit(0);
		}
		syscall(SYS_exit, 5);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	return 0;
}

static pthread_mutex_t robust;
static void *die_with_it(void *unused) {
	pthread_mutex_lock(&robust);
	return unused;
}
static int a_robust_mutex_tells_of_its_dead_owner(void) {
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attributes);
	pthread_t thread;
	EXPECT(pthread_create(&thread, NULL, die_with_it, NULL) == 0);
	pthread_join(thread, NULL);
	EXPECT(pthread_mutex_lock(&robust) == EOWNERDEAD);
	EXPECT(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
	return 0;
}

static pthread_barrier_t barrier;
static void *meet(void *unused) {
	pthread_barrier_wait(&barrier);
	return unused;
}
static int a_thousand_threads_at_once(void) {
	enum { COUNT = 1000 };
	static pthread_t threads[COUNT];
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	pthread_barrier_init(&barrier, NULL, COUNT + 1);
	for (int i = 0; i < COUNT; i++)
		EXPECT(pthread_create(&threads[i], &attributes, meet, NULL) == 0);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < COUNT; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	return 0;
}

/* A task that is moved from CPU to CPU runs each handler at once, also where it is the only one. */
static volatile int handled;

static void count_signal(int signal) {
	(void)signal;
	handled++;
}

static void *spin(void *over) {
	while (!*(volatile int *)over)
		;
	return 0;
}

static int a_signal_finds_a_thread_that_moves(void) {
	cpu_set_t all, one;
	pthread_t thread;
	volatile int over = 0;
	handled = 0;
	signal(SIGUSR1, count_signal);
	EXPECT(sched_getaffinity(0, sizeof all, &all) == 0);
	EXPECT(pthread_create(&thread, 0, spin, (void *)&over) == 0);
	int count = CPU_COUNT(&all);
	for (int round = 1; round <= 2000; round++) {
		if (count > 1) {
			CPU_ZERO(&one);
			CPU_SET(1 + round % (count - 1), &one);
			EXPECT(pthread_setaffinity_np(thread, sizeof one, &one) == 0);
		}
		for (volatile int pause = 0; pause < round % 3000; pause++)
			;
		EXPECT(pthread_kill(thread, SIGUSR1) == 0);
		long until = clock_ms(CLOCK_MONOTONIC) + 10000;
		while (handled != round) {
			EXPECT(clock_ms(CLOCK_MONOTONIC) < until);
			if (count == 1)
				sched_yield();
		}
	}
	over = 1;
	EXPECT(pthread_join(thread, 0) == 0);
	signal(SIGUSR1, SIG_DFL);
	return 0;
}

static int affinity_is_kept_and_checked(void) {
	cpu_set_t set, old;
	EXPECT(sched_getaffinity(0, sizeof old, &old) == 0 && CPU_COUNT(&old) >= 1);
	CPU_ZERO(&set);
	EXPECT(sched_setaffinity(0, sizeof set, &set) == -1 && errno == EINVAL);
	for (int cpu = 0; cpu < 64; cpu++)
		if (CPU_ISSET(cpu, &old)) {
			CPU_ZERO(&set);
			CPU_SET(cpu, &set);
			EXPECT(sched_setaffinity(0, sizeof set, &set) == 0 && sched_getcpu() == cpu);
		}
	EXPECT(sched_setaffinity(0, sizeof old, &old) == 0);
	EXPECT(sched_setaffinity(1 << 22, sizeof old, &old) == -1 && errno == ESRCH);
	return 0;
}

#define CASE(name) {#name, name}
static const struct test tests[] = {
	CASE(threads_have_storage_of_their_own_and_join),
	CASE(a_mutex_excludes),
	CASE(a_condition_passes_the_turn),
	CASE(a_futex_wait_ends_in_time),
	CASE(bits_and_queues_pick_who_wakes),
	CASE(a_wake_changes_another_word),
	CASE(signals_go_to_the_thread_they_mean),
	CASE(the_end_of_a_process_ends_all_its_waits),
	CASE(a_fork_in_a_thread_copies_that_thread_only),
	CASE(execve_in_a_thread_ends_the_others),
	CASE(the_first_thread_may_leave_first),
	CASE(a_robust_mutex_tells_of_its_dead_owner),
	CASE(a_thousand_threads_at_once),
	CASE(a_signal_finds_a_thread_that_moves),
	CASE(affinity_is_kept_and_checked),
};

int main(int argc, char **argv) {
	if (argc > 2 && strcmp(argv[1], "--exit") == 0)
		return atoi(argv[2]);
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
