/*
 * pmem write | verify: /dev/dax0.0 through libpmem, as a program of PMDK's users does it. `write` stores a line in each
 * way that libpmem has, `verify` finds them all at the next boot.
 */
#include <libpmem.h>
#include <stdio.h>
#include <string.h>

static const char *const lines[] = { "by pmem_memcpy_persist", "by a store and pmem_persist", "by pmem_deep_persist" };

enum { COUNT = sizeof(lines) / sizeof(lines[0]), STRIDE = 3 << 20 };

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, pmem_errormsg());
	return 1;
}

static int write_all(char *device)
{
	pmem_memcpy_persist(device, lines[0], strlen(lines[0]) + 1);
	strcpy(device + STRIDE, lines[1]);
	pmem_persist(device + STRIDE, strlen(lines[1]) + 1);
	strcpy(device + 2 * STRIDE, lines[2]);
	if (pmem_deep_persist(device + 2 * STRIDE, strlen(lines[2]) + 1))
		return fail("pmem_deep_persist");
	return 0;
}

static int verify_all(const char *device)
{
	int found = 0;

	for (int i = 0; i < COUNT; i++)
		found += !strncmp(device + i * STRIDE, lines[i], strlen(lines[i]) + 1);
	printf("%d of %d lines are there\n", found, COUNT);
	return found != COUNT;
}

int main(int argc, char **argv)
{
	size_t len;
	int is_pmem, failed;
	char *device = pmem_map_file("/dev/dax0.0", 0, 0, 0, &len, &is_pmem);

	if (!device)
		return fail("pmem_map_file");
	printf("%zu bytes, is_pmem %d by map_file and %d by is_pmem\n", len, is_pmem, pmem_is_pmem(device, len));
	failed = argc == 2 && !strcmp(argv[1], "write") ? write_all(device) : verify_all(device);
	if (pmem_unmap(device, len))
		return fail("pmem_unmap");
	return failed;
}
