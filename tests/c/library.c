/* A library with one of each: text, constants, data, zeros, storage of threads. With PLUGIN: one that is loaded by
 * dlopen and uses the other. */
#include "library.h"

#ifdef PLUGIN
static int ready;
__attribute__((constructor)) static void start(void) {
	ready = 100;
}

int plugin_add(int value) {
	return library_counter + ready + value;
}
#else
static const char text[] = "relocated";
const char *const library_text = text;
const struct library_table library_table = {text};
int library_counter = 7;
char library_zeros[100000];
_Thread_local int library_own = 42;

int library_count(void) {
	return library_counter;
}

int library_sum(void) {
	int sum = 0;
	for (unsigned i = 0; i < sizeof library_zeros; i++)
		sum += library_zeros[i];
	return sum;
}
#endif
