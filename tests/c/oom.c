/* Touches more anonymous memory than the machine has: killed by SIGKILL, status 137. */
#include <stdio.h>
#include <sys/mman.h>

#define STEP (16L << 20)

int main(void)
{
	for (;;) {
		char *p = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED) {
			perror("mmap of memory that nothing touched yet");
			return 1;
		}
		for (long at = 0; at < STEP; at += 4096)
			((volatile char *)p)[at] = 1;
	}
}
