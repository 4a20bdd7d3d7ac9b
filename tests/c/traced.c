/* A few calls whose lines a trace must show: see the suite's row. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void handler(int number)
{
    (void)number;
}

int main(void)
{
    char bytes[8];
    volatile char *volatile nowhere = (char *)0x10;
    int ends[2], status;

    int fd = syscall(SYS_openat, AT_FDCWD, "/dev/dax0.0", O_RDWR | O_CLOEXEC);
    syscall(SYS_openat, AT_FDCWD, "/no\nfile", O_WRONLY | O_CREAT | O_EXCL | O_DIRECTORY, 0640);
    char *memory = mmap(0, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 2 << 20);
    syscall(SYS_mmap, 0, 4096, PROT_NONE, MAP_SHARED, fd, 0);
    if (pipe2(ends, O_NONBLOCK) != 0 || memory == MAP_FAILED)
        return 1;
    syscall(SYS_write, ends[1], "0123456789012345678901234567890123", 34);
    syscall(SYS_read, ends[0], bytes, 8);
    syscall(SYS_kill, 1 << 22, SIGUSR1);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    if (syscall(SYS_fork) == 0) {
        *nowhere = 1;
        return 1;
    }
    syscall(SYS_wait4, -1, &status, 0, 0);
    syscall(999, 1, 2, 3, 4, 5, 6);
    char *const words[] = {"none", "a \"b\"", 0};
    execve("/bin/none", words, words);
    return 3;
}
