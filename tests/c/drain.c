/* Takes all memory, then makes devices until that is refused, and disables one: the kernel has kept enough for it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POPULATE_WRITE 23

static int put(const char *path, const char *text) {
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		return errno;
	int why = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return why;
}

int main(void) {
	int device = open("/dev/dax0.0", O_RDWR), made = 0, why;
	size_t most = 1UL << 30;
	char *memory = mmap(0, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (device < 0 || memory == MAP_FAILED)
		return 1;
	for (size_t at = 0; at < most && madvise(memory + at, 4096, POPULATE_WRITE) == 0; at += 4096)
		;
	/* Small ones, so that the region lasts. */
	if (put("/sys/bus/dax/drivers/device_dax/unbind", "dax0.0") || put("/sys/bus/dax/devices/dax0.0/size", "4096"))
		return 2;
	while ((why = put("/sys/bus/nd/devices/region0/dax_region/create", "1")) == 0)
		made++;
	if (why != ENOMEM)
		return 3;
	munmap(memory, most);
	if (put("/sys/bus/dax/drivers/device_dax/bind", "dax0.0"))
		return 4;
	if (put("/sys/bus/dax/drivers/device_dax/unbind", "dax0.0"))
		return 5;
	printf("made %d\n", made);
	/* What this program made it takes back. */
	for (int id = 1; id <= made; id++) {
		char name[32];
		snprintf(name, sizeof name, "dax0.%d", id);
		if (put("/sys/bus/nd/devices/region0/dax_region/delete", name))
			return 6;
	}
	return 0;
}
