/* Touches the first byte behind the device without a handler: status 135. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(void)
{
	struct stat st;
	int fd = open("/dev/dax0.0", O_RDWR);

	if (fd < 0 || fstat(fd, &st)) {
		perror("/dev/dax0.0");
		return 1;
	}
	/* 1 GiB more than the device is a multiple of every alignment that the device itself has. */
	volatile char *p = mmap(NULL, st.st_size + (1L << 30), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	p[st.st_size - 1] = 1;
	p[st.st_size] = 1;
	return 0;
}
