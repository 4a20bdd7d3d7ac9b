/* Never ends: for --timeout. Says so first, so that output before a time-out can be checked. */
#include <unistd.h>

int main(void)
{
	if (write(1, "looping\n", 8) != 8)
		return 1;
	for (volatile unsigned n = 0;; n++)
		;
}
