/* Processes: fork, exec, wait, signals between them. Runs on any Linux, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FUTEX_WAIT, FUTEX_WAKE };
#define FUTEX_WAITERS 0x80000000u
#define FUTEX_OWNER_DIED 0x40000000u

extern char **environ;
static const char *self;
/* Not known to the compiler, which would object. */
static void *volatile nowhere = (void *)8;

static volatile int *shared_page(void) {
	return mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int fork_gives_two_returns_and_a_status_word(void) {
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0)
		_exit(getppid() == parent && getpid() != parent && getpid() == (int)syscall(SYS_gettid) ? 42 : 1);
	int status;
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	EXPECT(waitpid(pid, &status, 0) == -1 && errno == ECHILD);
	EXPECT(kill(pid, 0) == -1 && errno == ESRCH);
	return 0;
}

static int death_by_signal_is_told_in_the_status(void) {
	int status;
	pid_t pid = fork();
	if (pid == 0)
		*(volatile int *)nowhere = 1;
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	EXPECT(kill(pid, SIGKILL) == 0);
	EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return 0;
}

static int a_write_after_fork_is_private(void) {
	static volatile int word = 1;
	volatile int *heap = malloc(1 << 20), stack = 3;
	volatile int *shared = shared_page();
	heap[1000] = 2;
	pid_t pid = fork();
	if (pid == 0) {
		int good = word == 1 && heap[1000] == 2 && stack == 3;
		word = heap[1000] = stack = 7;
		*shared = 9;
		_exit(good && word == 7 ? 0 : 1);
	}
	word = 5;
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	EXPECT(word == 5 && heap[1000] == 2 && stack == 3 && *shared == 9);
	free((void *)heap);
	return 0;
}

static int both_sides_write_the_same_pages_at_once(void) {
	enum { PAGES = 200 };
	volatile char *pages = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < PAGES; i++)
			pages[i * 4096] = i;
		pid_t pid = fork();
		int own = pid == 0 ? 1 : 2, bad = 0;
		for (int i = 0; i < PAGES; i++) {
			bad |= pages[i * 4096] != (char)i;
			pages[i * 4096 + 1] = own;
		}
		for (int i = 0; i < PAGES; i++)
			bad |= pages[i * 4096 + 1] != own;
		if (pid == 0)
			_exit(bad);
		int status;
		EXPECT(waitpid(pid, &status, 0) == pid && status == 0 && !bad);
	}
	return munmap((void *)pages, PAGES * 4096);
}

static int wait_any_group_and_nohang(void) {
	volatile int *go = shared_page();
	pid_t pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			while (!*go)
				sched_yield();
			_exit(i);
		}
	}
	int status;
	EXPECT(waitpid(-1, &status, WNOHANG) == 0);
	EXPECT(waitpid(1 << 22, &status, 0) == -1 && errno == ECHILD);
	EXPECT(waitpid(-1, &status, 0x100) == -1 && errno == EINVAL);
	*go = 1;
	siginfo_t info;
	EXPECT(waitid(P_PID, pids[1], &info, WEXITED | WNOWAIT) == 0);
	EXPECT(info.si_pid == pids[1] && info.si_code == CLD_EXITED && info.si_status == 1 && info.si_signo == SIGCHLD);
	int sum = 0;
	for (int i = 0; i < 3; i++) {
		pid_t pid = i == 1 ? waitpid(0, &status, 0) : waitpid(-1, &status, 0);
		EXPECT(pid > 0 && WIFEXITED(status));
		sum += WEXITSTATUS(status);
	}
	EXPECT(sum == 3);
	EXPECT(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
	return 0;
}

static volatile sig_atomic_t caught, caught_pid, caught_status, caught_code;
static void catch (int signal, siginfo_t *info, void *context) {
	(void)context;
	caught = signal;
	caught_pid = info->si_pid;
	caught_status = info->si_status;
	caught_code = info->si_code;
}
static void handle(int signal, int flags) {
	struct sigaction action = {.sa_sigaction = catch, .sa_flags = SA_SIGINFO | flags};
	caught = 0;
	sigaction(signal, &action, NULL);
}

static int a_child_tells_its_end(void) {
	handle(SIGCHLD, 0);
	sigset_t block, old;
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &old);
	pid_t pid = fork();
	if (pid == 0)
		_exit(9);
	while (!caught)
		sigsuspend(&old);
	sigprocmask(SIG_SETMASK, &old, NULL);
	EXPECT(caught == SIGCHLD && caught_pid == pid && caught_status == 9 && caught_code == CLD_EXITED);
	EXPECT(waitpid(pid, NULL, 0) == pid);
	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (pid == 0)
		_exit(9);
	EXPECT(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	signal(SIGCHLD, SIG_DFL);
	return 0;
}

static int a_signal_ends_a_sleep_and_restarts_a_wait(void) {
	pid_t parent = getpid();
	handle(SIGUSR1, SA_RESTART);
	pid_t pid = fork();
	if (pid == 0) {
		nap(30);
		kill(parent, SIGUSR1);
		nap(100);
		_exit(4);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 4);
	EXPECT(caught == SIGUSR1 && caught_pid == pid && caught_code == SI_USER);
	handle(SIGUSR1, 0);
	pid = fork();
	if (pid == 0) {
		nap(30);
		kill(parent, SIGUSR1);
		nap(100);
		kill(parent, SIGUSR1);
		_exit(4);
	}
	EXPECT(waitpid(pid, &status, 0) == -1 && errno == EINTR);
	struct timespec time = {100, 0}, rest = {0, 0};
	EXPECT(nanosleep(&time, &rest) == -1 && errno == EINTR && rest.tv_sec >= 98 && rest.tv_sec < 100);
	EXPECT(waitpid(pid, &status, 0) == pid);
	return 0;
}

static int a_new_program_gets_its_arguments_and_no_more(void) {
	int kept = open("/dev/zero", O_RDONLY), closed = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	signal(SIGUSR1, SIG_IGN);
	handle(SIGUSR2, 0);
	char keep[16], close_[16];
	snprintf(keep, sizeof keep, "%d", kept);
	snprintf(close_, sizeof close_, "%d", closed);
	char *argv[] = {"processes", "--child", keep, close_, NULL}, *envp[] = {"A=b", NULL};
	pid_t pid = fork();
	if (pid == 0) {
		execve(self, argv, envp);
		_exit(99);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 17);
	signal(SIGUSR1, SIG_DFL);
	pid = vfork();
	if (pid == 0) {
		execve(self, argv, envp);
		_exit(99);
	}
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	close(kept);
	close(closed);
	return 0;
}

/* The program that the case above starts: 17 when all is as it should be. */
static int child(char **argv) {
	struct sigaction usr1, usr2;
	sigaction(SIGUSR1, NULL, &usr1);
	sigaction(SIGUSR2, NULL, &usr2);
	int good = strcmp(getenv("A"), "b") == 0 && environ[1] == NULL && fcntl(atoi(argv[2]), F_GETFD) == 0 &&
			   fcntl(atoi(argv[3]), F_GETFD) == -1 && usr2.sa_handler == SIG_DFL;
	return good && usr1.sa_handler == SIG_IGN ? 17 : good;
}

/* The new program's part of the next test: its child sees who has the lock. */
static int locked(int fd) {
	pid_t pid = fork();
	if (pid == 0) {
		struct flock seen = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		int answer = fcntl(fd, F_GETLK, &seen);
		_exit(answer == 0 && seen.l_type == F_WRLCK && seen.l_pid == getppid() ? 17 : 1);
	}
	int status;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static int a_lock_of_bytes_outlives_exec(void) {
	char path[64], number[16];
	snprintf(path, sizeof path, "/tmp/exec-lock-%d", getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600), status;
	EXPECT(fd >= 0 && unlink(path) == 0);
	snprintf(number, sizeof number, "%d", fd);
	char *argv[] = {"x", "--locked", number, NULL};
	pid_t pid = fork();
	if (pid == 0) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		if (fcntl(fd, F_SETLK, &lock) == 0)
			execve(self, argv, environ);
		_exit(3);
	}
	EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 17);
	close(fd);
	return 0;
}

static void ignore_it(int signal) {
	(void)signal;
}

static int a_child_that_ended_comes_before_its_signal(void) {
	struct sigaction action = {.sa_handler = ignore_it}, before;
	EXPECT(sigaction(SIGCHLD, &action, &before) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		nap(20);
		_exit(3);
	}
	int status = 0;
	pid_t answer = waitpid(pid, &status, 0);
	EXPECT(sigaction(SIGCHLD, &before, NULL) == 0);
	EXPECT(answer == pid && WIFEXITED(status) && WEXITSTATUS(status) == 3);
	return 0;
}

static int a_child_that_is_killed_before_it_runs_ends(void) {
	for (int i = 0; i < 100; i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0)
			for (;;)
				;
		EXPECT(kill(pid, SIGKILL) == 0);
		EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	return 0;
}

static int a_failed_exec_leaves_the_program_as_it_was(void) {
	char *argv[] = {"x", NULL};
	EXPECT(execve("/no/such/program", argv, environ) == -1 && errno == ENOENT);
	EXPECT(execve("/dev/null", argv, environ) == -1 && errno == EACCES);
	EXPECT(execve((char *)nowhere, argv, environ) == -1 && errno == EFAULT);
	EXPECT(execve(self, (char **)nowhere, environ) == -1 && errno == EFAULT);
	char *big = malloc(200000);
	memset(big, 'x', 199999);
	big[199999] = 0;
	char *too_long[] = {"x", big, NULL};
	EXPECT(execve(self, too_long, environ) == -1 && errno == E2BIG);
	char **many = calloc(100001, sizeof *many);
	for (int i = 0; i < 100000; i++)
		many[i] = "0123456789012345678901234567890";
	EXPECT(execve(self, many, environ) == -1 && errno == E2BIG);
	free(many);
	free(big);
	return 0;
}

static int posix_spawn_works(void) {
	char *argv[] = {"processes", "--exit", "5", NULL};
	pid_t pid;
	int status;
	EXPECT(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
	EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
	EXPECT(posix_spawn(&pid, "/no/such", NULL, NULL, argv, environ) == ENOENT);
	posix_spawnattr_t attributes;
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
	EXPECT(posix_spawn(&pid, self, NULL, &attributes, argv, environ) == 0);
	EXPECT(waitpid(-pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
	return 0;
}

static int orphans_go_to_init(void) {
	volatile int *page = shared_page();
	pid_t pid = fork();
	if (pid == 0) {
		pid_t parent = getpid();
		if (fork() == 0) {
			while (getppid() == parent)
				sched_yield();
			page[0] = getppid();
			page[1] = 1;
			_exit(0);
		}
		_exit(0);
	}
	EXPECT(waitpid(pid, NULL, 0) == pid);
	while (!page[1])
		sched_yield();
	EXPECT(page[0] != getpid());
	EXPECT(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	return 0;
}

static int a_futex_in_shared_memory_wakes_another_process(void) {
	volatile int *word = shared_page();
	pid_t pid = fork();
	if (pid == 0) {
		while (*word == 0)
			syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
		_exit(*word);
	}
	nap(20);
	*word = 6;
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 6);
	return 0;
}

static int kill_finds_whom_it_means(void) {
	EXPECT(kill(1 << 22, 0) == -1 && errno == ESRCH);
	EXPECT(kill(getpid(), 65) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_tgkill, getpid(), 1 << 22, 0) == -1 && errno == ESRCH);
	EXPECT(syscall(SYS_tgkill, -1, 1, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_tkill, 0, 0) == -1 && errno == EINVAL);
	handle(SIGTERM, 0);
	volatile int *ready = shared_page();
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		*ready = 1;
		for (;;)
			pause();
	}
	while (!*ready)
		sched_yield();
	EXPECT(kill(0, SIGTERM) == 0);
	int status;
	while (waitpid(pid, &status, 0) != pid)
		;
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && caught == SIGTERM);
	return 0;
}

static int cpu_time_of_children_is_counted(void) {
	pid_t pid = fork();
	if (pid == 0) {
		struct timespec time;
		do
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
		while (time.tv_nsec < 30000000 && time.tv_sec == 0);
		_exit(0);
	}
	struct rusage usage, children;
	EXPECT(wait4(pid, NULL, 0, &usage) == pid);
	EXPECT(getrusage(RUSAGE_CHILDREN, &children) == 0);
	long us = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	EXPECT(usage.ru_utime.tv_sec > 0 || us >= 25000);
	EXPECT(children.ru_utime.tv_sec * 1000000 + children.ru_utime.tv_usec >= usage.ru_utime.tv_usec);
	return 0;
}

static int a_thousand_short_lives(void) {
	for (int i = 0; i < 1000; i++) {
		pid_t pid = fork();
		EXPECT(pid >= 0);
		if (pid == 0)
			_exit(i & 0xff);
		int status;
		EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == (i & 0xff));
	}
	return 0;
}

/* An orphan's child by CLONE_PARENT has the orphan's parent, which is in no table here. */
static int an_orphan_makes_a_sister(void) {
	volatile int *shared = shared_page();
	pid_t first = getpid(), middle = fork();
	if (middle == 0) {
		pid_t parent = getpid();
		if (fork() != 0)
			_exit(0);
		while (getppid() == parent)
			sched_yield();
		int own = getppid();
		long sister = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (sister == 0) {
			shared[1] = getppid() == own ? 1 : 2;
			_exit(0);
		}
		shared[2] = sister > 0 && getppid() != first ? 1 : 2;
		_exit(0);
	}
	int status;
	EXPECT(waitpid(middle, &status, 0) == middle && status == 0);
	for (int i = 0; i < 500 && !(shared[1] && shared[2]); i++)
		nap(10);
	EXPECT(shared[1] == 1 && shared[2] == 1);
	EXPECT(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
	return 0;
}

/* <linux/futex.h>: struct robust_list_head, and a lock behind its list entry. */
struct robust {
	void *next;
	long distance;
	void *pending;
	void *entry;
	int word;
};

/* Dies with `word` as the lock that it was about to take or to release. */
static int dies_at_a_lock(volatile struct robust *robust, int is_owner) {
	pid_t pid = fork();
	if (pid == 0) {
		robust->next = (void *)robust;
		robust->distance = sizeof(void *);
		robust->pending = (void *)&robust->entry;
		nap(50);
		robust->word = is_owner ? (int)(getpid() | FUTEX_WAITERS) : 0;
		_exit(syscall(SYS_set_robust_list, robust, 3 * sizeof(void *)) != 0);
	}
	return pid;
}

static int who_dies_at_a_lock_wakes_the_next(void) {
	volatile struct robust *robust = (volatile void *)shared_page();
	for (int is_owner = 0; is_owner < 2; is_owner++) {
		robust->word = 7;
		pid_t pid = dies_at_a_lock(robust, is_owner);
		struct timespec limit = {10, 0};
		EXPECT(syscall(SYS_futex, &robust->word, FUTEX_WAIT, 7, &limit, NULL, 0) == 0);
		EXPECT(robust->word == (is_owner ? (int)(FUTEX_WAITERS | FUTEX_OWNER_DIED) : 0));
		int status;
		EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	}
	return 0;
}

/* Two that wake up on one idle CPU at once, and of which neither lets the other run. */
static int both_of_two_that_are_woken_get_a_turn(void) {
	volatile int *shared = shared_page();
	cpu_set_t before, here, there;
	EXPECT(sched_getaffinity(0, sizeof before, &before) == 0);
	int last = 0;
	for (int cpu = 0; cpu < 64; cpu++)
		last = CPU_ISSET(cpu, &before) ? cpu : last;
	CPU_ZERO(&here);
	CPU_ZERO(&there);
	CPU_SET(0, &here);
	CPU_SET(last, &there);
	EXPECT(sched_setaffinity(0, sizeof here, &here) == 0);
	for (int round = 0; round < 20; round++) {
		pid_t pids[2];
		shared[0] = shared[1] = shared[2] = 0;
		for (int i = 0; i < 2; i++) {
			pids[i] = fork();
			if (pids[i] == 0) {
				sched_setaffinity(0, sizeof there, &there);
				syscall(SYS_futex, shared, FUTEX_WAIT, 0, NULL, NULL, 0);
				shared[1 + i] = 1;
				while (!shared[2 - i])
					;
				_exit(0);
			}
		}
		nap(5);
		*shared = 1;
		syscall(SYS_futex, shared, FUTEX_WAKE, 2, NULL, NULL, 0);
		for (int i = 0; i < 2; i++) {
			int status, ended = 0;
			for (int turn = 0; turn < 1000 && !(ended = waitpid(pids[i], &status, WNOHANG)); turn++)
				nap(10);
			if (!ended)
				kill(pids[0], SIGKILL), kill(pids[1], SIGKILL);
			EXPECT(ended == pids[i] && status == 0);
		}
	}
	EXPECT(sched_setaffinity(0, sizeof before, &before) == 0);
	return 0;
}

static int clone_refuses_nonsense(void) {
	EXPECT(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_clone3, NULL, 8) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_clone3, NULL, 1 << 20) == -1 && errno == E2BIG);
	EXPECT(syscall(SYS_clone3, NULL, 88) == -1 && errno == EFAULT);
	return 0;
}

#define CASE(name) {#name, name}
static const struct test tests[] = {
	CASE(fork_gives_two_returns_and_a_status_word),
	CASE(death_by_signal_is_told_in_the_status),
	CASE(a_write_after_fork_is_private),
	CASE(both_sides_write_the_same_pages_at_once),
	CASE(wait_any_group_and_nohang),
	CASE(a_child_tells_its_end),
	CASE(a_signal_ends_a_sleep_and_restarts_a_wait),
	CASE(a_new_program_gets_its_arguments_and_no_more),
	CASE(a_lock_of_bytes_outlives_exec),
	CASE(a_child_that_ended_comes_before_its_signal),
	CASE(a_child_that_is_killed_before_it_runs_ends),
	CASE(a_failed_exec_leaves_the_program_as_it_was),
	CASE(posix_spawn_works),
	CASE(orphans_go_to_init),
	CASE(a_futex_in_shared_memory_wakes_another_process),
	CASE(kill_finds_whom_it_means),
	CASE(cpu_time_of_children_is_counted),
	CASE(a_thousand_short_lives),
	CASE(an_orphan_makes_a_sister),
	CASE(who_dies_at_a_lock_wakes_the_next),
	CASE(both_of_two_that_are_woken_get_a_turn),
	CASE(clone_refuses_nonsense),
};

int main(int argc, char **argv) {
	if (argc > 3 && strcmp(argv[1], "--child") == 0)
		return child(argv);
	if (argc > 2 && strcmp(argv[1], "--locked") == 0)
		return locked(atoi(argv[2]));
	if (argc > 2 && strcmp(argv[1], "--exit") == 0)
		return atoi(argv[2]);
	self = "/proc/self/exe";
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
