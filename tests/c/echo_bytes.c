/*
 * Writes every byte value, to stdout upwards and to stderr downwards, ROUNDS times (argv[1], default 4):
 * what arrives must be ROUNDS * 256 bytes each, unchanged. Odd write lengths, so that no boundary is even.
 */
#include <stdlib.h>
#include <unistd.h>

static int all(int fd, const unsigned char *bytes, long len)
{
	while (len > 0) {
		long done = write(fd, bytes, len < 97 ? len : len / 2 + 1);

		if (done <= 0)
			return -1;
		bytes += done;
		len -= done;
	}
	return 0;
}

int main(int argc, char **argv)
{
	enum { AT_ONCE = 256 };
	static unsigned char up[256 * AT_ONCE], down[256 * AT_ONCE];
	long rounds = argc > 1 ? atol(argv[1]) : 4;

	for (int i = 0; i < 256 * AT_ONCE; i++) {
		up[i] = i;
		down[i] = 255 - i;
	}
	for (; rounds > 0; rounds -= AT_ONCE) {
		long len = 256 * (rounds < AT_ONCE ? rounds : AT_ONCE);

		if (all(1, up, len) || all(2, down, len))
			return 1;
	}
	return 0;
}
