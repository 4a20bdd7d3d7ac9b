/*
 * An NVDIMM as memory: open, mmap, store, load. Knows nothing of the alignment: 1 GiB is a multiple of
 * each. The last bytes of the mapping are the program's own; what it stored is there when mapped again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define LEN (1L << 30)

static char *map(int fd)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED) {
		perror("mmap /dev/dax0.0");
		return NULL;
	}
	return p;
}

int main(void)
{
	static const char text[] = "stored to an NVDIMM by plain C";
	const long places[] = { LEN - 64, LEN / 2 + 4096 - 8, LEN / 4 + 12345 };
	const int count = sizeof(places) / sizeof(places[0]);
	int fd = open("/dev/dax0.0", O_RDWR);
	char *p;

	if (fd < 0) {
		perror("open /dev/dax0.0");
		return 1;
	}
	if (!(p = map(fd)))
		return 1;
	for (int i = 0; i < count; i++)
		memcpy(p + places[i], text, sizeof(text));
	if (munmap(p, LEN)) {
		perror("munmap");
		return 1;
	}
	if (!(p = map(fd)))
		return 1;
	for (int i = 0; i < count; i++)
		if (memcmp(p + places[i], text, sizeof(text))) {
			fprintf(stderr, "byte %ld: other bytes than were stored\n", places[i]);
			return 1;
		}
	printf("dax_mmap: %d stores through %p, all there after mapping again\n", count, (void *)p);
	return 0;
}
