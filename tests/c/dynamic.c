/* A dynamic program: its loader, its libraries, programs that name others. Runs on any Linux, too; without the files
 * that the suite brings (/test, /lib/libplugin.so) those cases fail there. */
#define _GNU_SOURCE
#include "ktap.h"
#include "library.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern const char _start[];

/* The permissions of the mapping that `address` is in, as /proc/self/maps shows them. */
static const char *permissions(const void *address) {
	static char found[5];
	char line[512];
	unsigned long start, end;
	FILE *maps = fopen("/proc/self/maps", "r");
	strcpy(found, "none");
	while (maps && fgets(line, sizeof line, maps)) {
		char letters[5];
		if (sscanf(line, "%lx-%lx %4s", &start, &end, letters) == 3 && start <= (unsigned long)address &&
		    (unsigned long)address < end)
			strcpy(found, letters);
	}
	if (maps)
		fclose(maps);
	return found;
}

static int the_loader_is_somewhere_else_and_knows_the_program(void) {
	const char *base = (const char *)getauxval(AT_BASE), *headers = (const char *)getauxval(AT_PHDR);
	EXPECT(getauxval(AT_ENTRY) == (unsigned long)_start);
	EXPECT(base && memcmp(base, "\177ELF", 4) == 0);
	EXPECT(memcmp(headers - 64, "\177ELF", 4) == 0 && headers - 64 != base);
	EXPECT(getauxval(AT_PHNUM) >= 4 && getauxval(AT_PHENT) == 56);
	return 0;
}

static int a_library_has_its_data_zeros_and_constants(void) {
	EXPECT(strcmp(library_text, "relocated") == 0 && library_counter == 7);
	library_counter++;
	EXPECT(library_count() == 8);
	for (size_t i = 0; i < sizeof library_zeros; i++)
		EXPECT(library_zeros[i] == 0);
	library_zeros[sizeof library_zeros - 1] = 1;
	/* Behind the last byte of the file in its last page, and pages that no file has. */
	EXPECT(library_sum() == 1);
	EXPECT(strcmp(permissions(&library_table), "r--p") == 0);
	EXPECT(strcmp(permissions(&library_counter), "rw-p") == 0);
	EXPECT(strcmp(permissions((const void *)library_count), "r-xp") == 0);
	EXPECT(library_table.text == library_text);
	return 0;
}

static void *count_alone(void *argument) {
	(void)argument;
	for (int i = 0; i < 1000; i++)
		library_own++;
	/* Unwinds: glibc loads libgcc_s.so.1 for it. */
	pthread_exit((void *)(long)library_own);
}

static int every_thread_has_its_own_storage_of_a_library(void) {
	pthread_t threads[8];
	void *own;
	for (int i = 0; i < 8; i++)
		EXPECT(pthread_create(&threads[i], NULL, count_alone, NULL) == 0);
	for (int i = 0; i < 8; i++)
		EXPECT(pthread_join(threads[i], &own) == 0 && own == (void *)1042);
	EXPECT(library_own == 42);
	return 0;
}

static int a_plugin_is_loaded_used_and_unloaded(void) {
	void *plugin = dlopen("libplugin.so", RTLD_NOW);
	EXPECT(plugin);
	int (*add)(int) = (int (*)(int))dlsym(plugin, "plugin_add");
	EXPECT(add && add(1) == library_counter + 101);
	EXPECT(dlsym(plugin, "plugin_subtract") == NULL);
	EXPECT(dlclose(plugin) == 0);
	EXPECT(strcmp(permissions((const void *)add), "none") == 0);
	EXPECT(dlopen("libnone.so", RTLD_NOW) == NULL && strstr(dlerror(), "libnone.so"));
	return 0;
}

/* The C library's file, which is large. */
static int open_library(struct stat *stat) {
	Dl_info info;
	int fd = dladdr((const void *)(long)printf, &info) ? open(info.dli_fname, O_RDONLY) : -1;
	return fd >= 0 && fstat(fd, stat) == 0 ? fd : -1;
}

static unsigned long free_bytes(void) {
	struct sysinfo info;
	return sysinfo(&info) ? 0 : info.freeram * info.mem_unit;
}

static int pages_that_are_only_read_take_no_memory(void) {
	struct stat stat;
	int fd = open_library(&stat), sum = 0;
	EXPECT(fd >= 0 && stat.st_size > 1 << 20);
	const volatile char *map = mmap(0, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(map != MAP_FAILED);
	unsigned long before = free_bytes();
	for (long at = 0; at < stat.st_size; at += 4096)
		sum += map[at];
	EXPECT(before - free_bytes() < 128 << 10);
	EXPECT(sum != 0 && munmap((void *)map, stat.st_size) == 0 && close(fd) == 0);
	return 0;
}

static int a_segment_of_a_file_is_mapped_over_a_reservation(void) {
	struct stat stat;
	int fd = open_library(&stat);
	EXPECT(fd >= 0);
	char page[4096];
	EXPECT(pread(fd, page, 4096, 8192) == 4096);
	char *room = mmap(0, 5 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE;
	EXPECT(mmap(room + 4096, 8192, PROT_READ | PROT_WRITE, flags, fd, 8192) == room + 4096);
	EXPECT(memcmp(room + 4096, page, 4096) == 0);
	memset(room + 4096 + 100, 0, 4096 - 100);
	char *again = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 8192);
	EXPECT(memcmp(again, page, 4096) == 0 && memcmp(room + 4096, page, 100) == 0);
	EXPECT(mprotect(room + 4096, 4096, PROT_READ) == 0 && strcmp(permissions(room + 4096), "r--p") == 0);
	EXPECT(room[4096 + 4095] == 0 && strcmp(permissions(room + 8192), "rw-p") == 0);
	EXPECT(strcmp(permissions(room), "---p") == 0 && strcmp(permissions(room + 3 * 4096), "---p") == 0);
	EXPECT(munmap(room, 5 * 4096) == 0 && munmap(again, 4096) == 0 && close(fd) == 0);
	return 0;
}

/* Runs a program; its exit status, or the negative errno of execve. */
static int run(const char *path, char **argv) {
	volatile int error = 0;
	int status;
	pid_t pid = vfork();
	if (pid == 0) {
		execve(path, argv, environ);
		error = errno;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1000;
	return error ? -error : WEXITSTATUS(status);
}

static int a_dynamic_program_is_run_by_vfork_and_exec(void) {
	char *argv[] = {"other", "--child", "--child", "x", NULL};
	EXPECT(run("/proc/self/exe", argv) == 33);
	return 0;
}

static int a_script_is_run_by_its_interpreter(void) {
	/* The interpreter is this program, which counts: its path, the argument, the script, and what followed. */
	char *argv[] = {"lost", "x", "y", NULL};
	EXPECT(run("/test/script", argv) == 34);
	EXPECT(run("/test/script-of-script", argv) == 35);
	EXPECT(run("/test/script", argv + 3) == 32);
	return 0;
}

static int what_cannot_be_run_says_why(void) {
	char *argv[] = {"x", NULL};
	EXPECT(run("/test/no-loader", argv) == -ENOENT);
	EXPECT(run("/test/bad-loader", argv) == -ELIBBAD);
	EXPECT(run("/test/no-interpreter", argv) == -ENOENT);
	EXPECT(run("/test/empty-interpreter", argv) == -ENOEXEC);
	EXPECT(run("/test/directory-interpreter", argv) == -EACCES);
	EXPECT(run("/test/data-interpreter", argv) == -EACCES);
	EXPECT(run("/test/endless", argv) == -ELOOP);
	return 0;
}

#define CASE(name) {#name, name}
static const struct test tests[] = {
	CASE(the_loader_is_somewhere_else_and_knows_the_program),
	CASE(a_library_has_its_data_zeros_and_constants),
	CASE(every_thread_has_its_own_storage_of_a_library),
	CASE(a_plugin_is_loaded_used_and_unloaded),
	CASE(pages_that_are_only_read_take_no_memory),
	CASE(a_segment_of_a_file_is_mapped_over_a_reservation),
	CASE(a_dynamic_program_is_run_by_vfork_and_exec),
	CASE(a_script_is_run_by_its_interpreter),
	CASE(what_cannot_be_run_says_why),
};

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "--child") == 0)
		return 29 + argc;
	return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
