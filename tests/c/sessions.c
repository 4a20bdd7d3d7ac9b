/* Sessions, process groups, priorities, locks and owners of files, ranges of descriptors. Runs on any Linux as root, too. */
#define _GNU_SOURCE
#include "clock.h"
#include "ktap.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static const char self[] = "/proc/self/exe";

static int exit_status(pid_t pid) {
	int status;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void ignore(int signal) {
	(void)signal;
}

static int a_session_is_made_once(void) {
	pid_t session = getsid(0), group = getpgrp(), pid = fork();
	if (pid == 0) {
		if (getsid(0) != session || getpgid(0) != group)
			_exit(1);
		if (setsid() != getpid() || getsid(0) != getpid() || getpgrp() != getpid())
			_exit(2);
		if (setsid() != -1 || errno != EPERM)
			_exit(3);
		pid_t child = fork();
		if (child == 0)
			_exit(getsid(0) == getppid() && getpgrp() == getppid() ? 0 : 1);
		_exit(exit_status(child) == 0 ? 0 : 4);
	}
	EXPECT(exit_status(pid) == 0);
	EXPECT(getsid(99999) == -1 && errno == ESRCH);
	return 0;
}

static int a_session_gets_a_signal_together(void) {
	int ends[2], status;
	char byte;
	if (pipe(ends))
		return __LINE__;
	pid_t leader = fork();
	if (leader == 0) {
		setsid();
		if (fork() == 0) {
			/* The end of the pipe tells that this one ended, too. */
			write(ends[1], "x", 1);
			for (;;)
				pause();
		}
		close(ends[1]);
		for (;;)
			pause();
	}
	close(ends[1]);
	EXPECT(read(ends[0], &byte, 1) == 1 && getpgid(leader) == leader && getpgrp() != leader);
	EXPECT(waitpid(-leader, 0, WNOHANG) == 0);
	EXPECT(kill(-leader, SIGTERM) == 0);
	EXPECT(waitpid(-leader, &status, 0) == leader && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	EXPECT(read(ends[0], &byte, 1) == 0);
	close(ends[0]);
	return 0;
}

static int a_group_gets_a_signal_and_others_do_not(void) {
	int status;
	pid_t pids[3];
	/* Two in a group of their own, set by parent and child as shells do it, and one outside. */
	for (int i = 0; i < 3; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			if (i < 2)
				setpgid(0, pids[0]);
			for (;;)
				pause();
		}
		EXPECT(setpgid(pids[i], i < 2 ? pids[0] : 0) == 0);
	}
	EXPECT(getpgid(pids[1]) == pids[0] && getpgid(pids[2]) == pids[2] && getsid(pids[1]) == getsid(0));
	EXPECT(waitpid(-pids[0], &status, WNOHANG) == 0);
	EXPECT(kill(-pids[0], SIGTERM) == 0);
	EXPECT(waitpid(-pids[0], &status, 0) > 0 && WTERMSIG(status) == SIGTERM);
	EXPECT(waitpid(-pids[0], &status, 0) > 0 && WTERMSIG(status) == SIGTERM);
	EXPECT(waitpid(-pids[0], &status, 0) == -1 && errno == ECHILD);
	EXPECT(kill(-pids[0], 0) == -1 && errno == ESRCH);
	EXPECT(waitpid(pids[2], &status, WNOHANG) == 0 && kill(pids[2], SIGKILL) == 0);
	EXPECT(waitpid(pids[2], &status, 0) == pids[2] && WTERMSIG(status) == SIGKILL);
	return 0;
}

static int a_group_is_joined_in_its_session_only(void) {
	EXPECT(setpgid(0, -1) == -1 && errno == EINVAL);
	EXPECT(setpgid(99999, 0) == -1 && errno == ESRCH);
	EXPECT(setpgid(getppid(), 0) == -1 && (errno == ESRCH || errno == EPERM));
	int ends[2];
	char byte;
	if (pipe2(ends, O_CLOEXEC))
		return __LINE__;
	pid_t leader = fork();
	if (leader == 0) {
		setsid();
		write(ends[1], "x", 1);
		for (;;)
			pause();
	}
	EXPECT(read(ends[0], &byte, 1) == 1);
	EXPECT(setpgid(leader, getpgrp()) == -1 && errno == EPERM);
	pid_t pid = fork();
	if (pid == 0)
		_exit(setpgid(0, leader) == -1 && errno == EPERM && setpgid(0, 99999) == -1 && errno == EPERM ? 0 : 1);
	EXPECT(exit_status(pid) == 0);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		execl(self, "sessions", "--wait", NULL);
		_exit(1);
	}
	/* The end of the pipe tells that another program runs. */
	EXPECT(kill(leader, SIGKILL) == 0 && exit_status(leader) == -1 && close(ends[1]) == 0);
	EXPECT(read(ends[0], &byte, 1) == 0);
	EXPECT(setpgid(pid, 0) == -1 && errno == EACCES);
	EXPECT(kill(pid, SIGKILL) == 0 && exit_status(pid) == -1);
	close(ends[0]);
	return 0;
}

static int a_child_gets_a_signal_when_its_parent_ends(void) {
	int ends[2], signal = 0;
	char byte;
	if (pipe(ends))
		return __LINE__;
	pid_t parent = fork();
	if (parent == 0) {
		if (fork() == 0) {
			if (prctl(PR_SET_PDEATHSIG, SIGUSR1) || prctl(PR_GET_PDEATHSIG, &signal) || signal != SIGUSR1)
				_exit(1);
			write(ends[1], "x", 1);
			for (;;)
				pause();
		}
		_exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(ends[1]);
	EXPECT(exit_status(parent) == 0 && read(ends[0], &byte, 1) == 0);
	EXPECT(prctl(PR_SET_PDEATHSIG, 65) == -1 && errno == EINVAL);
	close(ends[0]);
	return 0;
}

static int a_priority_is_kept_and_inherited(void) {
	EXPECT(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20);
	EXPECT(setpriority(PRIO_PROCESS, 0, 0) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (setpriority(PRIO_PROCESS, 0, 5) || syscall(SYS_getpriority, PRIO_PROCESS, getpid()) != 15)
			_exit(1);
		pid_t child = fork();
		if (child == 0)
			_exit(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 15 ? 0 : 1);
		if (exit_status(child) != 0 || setpriority(PRIO_PROCESS, 0, 100))
			_exit(2);
		_exit(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 1 ? 0 : 3);
	}
	EXPECT(exit_status(pid) == 0);
	EXPECT(syscall(SYS_getpriority, PRIO_PROCESS, 99999) == -1 && errno == ESRCH);
	EXPECT(syscall(SYS_getpriority, 3, 0) == -1 && errno == EINVAL);
	return 0;
}

static int a_lock_belongs_to_the_open_file(void) {
	int first = open(self, O_RDONLY), second = open(self, O_RDONLY), other = open("/dev/null", O_RDWR);
	EXPECT(first >= 0 && second >= 0 && other >= 0);
	EXPECT(flock(first, LOCK_SH) == 0 && flock(second, LOCK_SH | LOCK_NB) == 0);
	EXPECT(flock(second, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	EXPECT(flock(first, LOCK_UN) == 0 && flock(second, LOCK_EX | LOCK_NB) == 0);
	EXPECT(flock(first, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	EXPECT(flock(other, LOCK_EX | LOCK_NB) == 0);
	/* A copy of the descriptor has it too; the last one gives it back. */
	int copy = dup(second);
	EXPECT(close(second) == 0 && flock(first, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	EXPECT(flock(copy, LOCK_SH) == 0 && flock(first, LOCK_SH | LOCK_NB) == 0);
	EXPECT(close(copy) == 0 && flock(first, LOCK_EX | LOCK_NB) == 0);
	/* Who takes it again keeps it, though somebody waits. */
	int *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t waiter = fork();
	if (waiter == 0) {
		int own = open(self, O_RDONLY);
		_exit(flock(own, LOCK_EX) == 0 && *told == 1 ? 0 : 1);
	}
	for (int i = 0; i < 200; i++) {
		EXPECT(flock(first, LOCK_EX) == 0);
		sched_yield();
	}
	*told = 1;
	int ended;
	EXPECT(flock(first, LOCK_UN) == 0 && waitpid(waiter, &ended, 0) == waiter && ended == 0);
	EXPECT(flock(first, 0) == -1 && errno == EINVAL && flock(first, LOCK_NB) == -1 && errno == EINVAL);
	EXPECT(flock(99, LOCK_EX) == -1 && errno == EBADF);
	close(first), close(other);
	return 0;
}

static int a_lock_is_waited_for(void) {
	volatile int *order = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = open(self, O_RDONLY);
	EXPECT(flock(fd, LOCK_EX) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		int own = open(self, O_RDONLY);
		close(fd);
		_exit(flock(own, LOCK_EX) == 0 && *order == 1 ? 0 : 1);
	}
	nap(20);
	*order = 1;
	EXPECT(close(fd) == 0 && exit_status(pid) == 0);
	/* A signal ends the wait. */
	fd = open(self, O_RDONLY);
	EXPECT(flock(fd, LOCK_SH) == 0);
	pid = fork();
	if (pid == 0) {
		struct sigaction action = {.sa_handler = ignore};
		sigaction(SIGUSR1, &action, 0);
		int own = open(self, O_RDONLY);
		*order = 2;
		_exit(flock(own, LOCK_EX) == -1 && errno == EINTR ? 0 : 1);
	}
	while (*order != 2)
		nap(1);
	nap(20);
	EXPECT(kill(pid, SIGUSR1) == 0 && exit_status(pid) == 0);
	munmap((void *)order, 4096), close(fd);
	return 0;
}

static int record(int fd, int command, short kind, long start, long len) {
	struct flock lock = {.l_type = kind, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	return fcntl(fd, command, &lock);
}

/* What a child may do with bytes of the file; a child has no locks of its parent. */
static int is_free(const char *path, short kind, long start, long len) {
	pid_t pid = fork();
	if (pid == 0)
		_exit(record(open(path, O_RDWR), F_SETLK, kind, start, len) == 0 ? 1 : errno == EAGAIN ? 0 : 2);
	return exit_status(pid);
}

/* sqlite does all of this. */
static int a_record_lock_belongs_to_the_process(void) {
	const char *path = "/tmp/records";
	int fd = open(path, O_RDWR | O_CREAT, 0600), other = open(path, O_RDWR), reader = open(path, O_RDONLY);
	EXPECT(record(fd, F_SETLK, F_WRLCK, 100, 100) == 0 && record(other, F_SETLK, F_WRLCK, 150, 100) == 0);
	EXPECT(is_free(path, F_RDLCK, 0, 100) == 1 && is_free(path, F_RDLCK, 99, 2) == 0);
	EXPECT(is_free(path, F_WRLCK, 249, 1) == 0 && is_free(path, F_WRLCK, 250, 0) == 1);
	/* A hole, and bytes that others may read. */
	EXPECT(record(fd, F_SETLK, F_UNLCK, 120, 10) == 0 && record(fd, F_SETLK, F_RDLCK, 200, 10) == 0);
	EXPECT(is_free(path, F_WRLCK, 120, 10) == 1 && is_free(path, F_WRLCK, 119, 1) == 0 && is_free(path, F_WRLCK, 130, 1) == 0);
	EXPECT(is_free(path, F_RDLCK, 200, 10) == 1 && is_free(path, F_WRLCK, 205, 1) == 0 && is_free(path, F_RDLCK, 210, 1) == 0);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = 125, .l_len = 0};
		if (fcntl(other, F_GETLK, &lock) != 0 || lock.l_type != F_WRLCK || lock.l_pid != parent)
			_exit(1);
		_exit(lock.l_whence == SEEK_SET && lock.l_start >= 130 && lock.l_len > 0 ? 0 : 2);
	}
	EXPECT(exit_status(pid) == 0);
	EXPECT(record(reader, F_SETLK, F_WRLCK, 0, 1) == -1 && errno == EBADF);
	EXPECT(record(fd, F_SETLK, F_WRLCK, -1, 1) == -1 && errno == EINVAL);
	EXPECT(record(fd, F_SETLK, 7, 0, 1) == -1 && errno == EINVAL && fcntl(fd, F_SETLK, 1) == -1 && errno == EFAULT);
	/* Whatever descriptor of the file is closed, all of them are gone. */
	EXPECT(close(reader) == 0 && is_free(path, F_WRLCK, 0, 0) == 1);
	/* Who waits gets it when it is free. */
	EXPECT(record(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
	pid = fork();
	if (pid == 0)
		_exit(record(fd, F_SETLKW, F_WRLCK, 5, 1) == 0 ? 0 : 1);
	nap(20);
	EXPECT(waitpid(pid, NULL, WNOHANG) == 0 && record(fd, F_SETLK, F_UNLCK, 0, 0) == 0 && exit_status(pid) == 0);
	close(fd), close(other);
	return unlink(path);
}

/* libpmemobj maps a pool, closes it, and relies on the lock. */
static int a_mapping_of_a_device_keeps_the_lock(void) {
	const char *device = "/dev/dax0.0";
	const size_t len = 2 << 20;
	int fd = open(device, O_RDWR);
	if (fd < 0)
		return 0;
	char *mapping = mmap(0, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(mapping != MAP_FAILED && flock(fd, LOCK_EX | LOCK_NB) == 0 && close(fd) == 0);
	fd = open(device, O_RDWR);
	EXPECT(flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	pid_t pid = fork();
	if (pid == 0) {
		nap(30);
		_exit(0);
	}
	EXPECT(munmap(mapping, len) == 0);
	/* The child has the mapping still. */
	EXPECT(flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	EXPECT(flock(fd, LOCK_EX) == 0 && exit_status(pid) == 0);
	EXPECT(flock(fd, LOCK_UN) == 0 && close(fd) == 0);
	return 0;
}

static int has_line(const char *path, const char *text) {
	char bytes[4096];
	int fd = open(path, O_RDONLY);
	ssize_t len = read(fd, bytes, sizeof bytes);
	close(fd);
	return len > 0 && memmem(bytes, len, text, strlen(text)) != NULL;
}

/* ls, cp, tar and df ask for these, and complain of any other answer. */
static int owners_and_attributes_are_what_tools_expect(void) {
	const char *path = "/tmp/owned";
	int fd = open(path, O_RDWR | O_CREAT, 0600), ends[2];
	char value[8];
	EXPECT(fd >= 0 && pipe(ends) == 0);
	EXPECT(chown(path, 0, 0) == 0 && fchown(fd, -1, 0) == 0 && lchown(path, -1, -1) == 0);
	EXPECT(fchownat(AT_FDCWD, path, 0, 0, AT_SYMLINK_NOFOLLOW) == 0);
	EXPECT(chown("/tmp/none", 0, 0) == -1 && errno == ENOENT && fchown(99, 0, 0) == -1 && errno == EBADF);
	EXPECT(fchownat(AT_FDCWD, path, 0, 0, 1) == -1 && errno == EINVAL);
	EXPECT(getxattr(path, "security.selinux", value, 8) == -1 && (errno == EOPNOTSUPP || errno == ENODATA));
	EXPECT(fgetxattr(fd, "user.x", value, 8) == -1 && (errno == EOPNOTSUPP || errno == ENODATA));
	EXPECT(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0 && posix_fadvise(fd, 0, 0, 99) == EINVAL);
	EXPECT(posix_fadvise(ends[0], 0, 0, 0) == ESPIPE && posix_fadvise(99, 0, 0, 0) == EBADF);
	EXPECT(syncfs(fd) == 0 && syncfs(99) == -1 && errno == EBADF);
	EXPECT(has_line("/proc/self/mountinfo", " - proc ") && has_line("/proc/self/environ", "PATH="));
	close(fd), close(ends[0]), close(ends[1]);
	return unlink(path);
}

static int a_range_of_descriptors_is_closed(void) {
	int fds[5];
	for (int i = 0; i < 5; i++)
		fds[i] = i ? fcntl(0, F_DUPFD, fds[0] + i) : fcntl(0, F_DUPFD, 100);
	EXPECT(fds[4] == 104);
	EXPECT(syscall(SYS_close_range, 101, 102, 0) == 0);
	EXPECT(fcntl(100, F_GETFD) == 0 && fcntl(101, F_GETFD) == -1 && errno == EBADF && fcntl(102, F_GETFD) == -1);
	EXPECT(syscall(SYS_close_range, 103, ~0u, 4) == 0);
	EXPECT(fcntl(103, F_GETFD) == FD_CLOEXEC && fcntl(104, F_GETFD) == FD_CLOEXEC && fcntl(100, F_GETFD) == 0);
	EXPECT(syscall(SYS_close_range, 100, ~0u, 0) == 0 && fcntl(100, F_GETFD) == -1);
	EXPECT(syscall(SYS_close_range, 2, 1, 0) == -1 && errno == EINVAL);
	EXPECT(syscall(SYS_close_range, 100, 100, 8) == -1 && errno == EINVAL);
	return 0;
}

int main(int argc, char **argv) {
	static const struct test tests[] = {
#define TEST(name) {#name, name}
		TEST(a_session_is_made_once),
		TEST(a_session_gets_a_signal_together),
		TEST(a_group_gets_a_signal_and_others_do_not),
		TEST(a_group_is_joined_in_its_session_only),
		TEST(a_child_gets_a_signal_when_its_parent_ends),
		TEST(a_priority_is_kept_and_inherited),
		TEST(a_lock_belongs_to_the_open_file),
		TEST(a_lock_is_waited_for),
		TEST(a_record_lock_belongs_to_the_process),
		TEST(a_mapping_of_a_device_keeps_the_lock),
		TEST(owners_and_attributes_are_what_tools_expect),
		TEST(a_range_of_descriptors_is_closed),
	};
	if (argc > 1 && strcmp(argv[1], "--wait") == 0)
		for (;;)
			pause();
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
