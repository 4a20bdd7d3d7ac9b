/* Recurses until the stack ends, without a handler: status 139. */
#include <string.h>

static int deeper(const char *above)
{
	char here[4096];

	memset(here, above[0] + 1, sizeof(here));
	return deeper(here) + here[above[1] & 15];
}

int main(void)
{
	char start[2] = { 1, 2 };

	return deeper(start);
}
