/* Time in milliseconds. */
#include <errno.h>
#include <time.h>

/* Sleeps for so long, whatever signals arrive. */
static inline void nap(long ms) {
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* Since some moment in the past. */
static inline long now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
