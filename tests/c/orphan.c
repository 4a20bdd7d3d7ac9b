/* Ends while a child waits in vfork for one that spins for ever: the run must end all three. */
#include <unistd.h>

int main(void) {
	if (fork() == 0) {
		if (vfork() == 0)
			for (;;)
				;
		_exit(0);
	}
	usleep(20000);
	return 0;
}
