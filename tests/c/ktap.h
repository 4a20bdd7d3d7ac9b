/* A table of cases as KTAP; a case returns 0, or the number of the line that was not as expected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(what)                                                                                                   \
	do {                                                                                                               \
		if (!(what)) {                                                                                                 \
			printf("# line %d: %s\n", __LINE__, #what);                                                                \
			return __LINE__;                                                                                           \
		}                                                                                                              \
	} while (0)

struct test {
	const char *name;
	int (*run)(void);
};

/* Runs all, or those that are named; 0 when all passed. */
static int run_tests(const struct test *tests, int count, int argc, char **argv) {
	int failed = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..%d\n", count);
	for (int i = 0; i < count; i++) {
		int wanted = argc < 2;
		for (int a = 1; a < argc; a++)
			wanted |= strcmp(argv[a], tests[i].name) == 0;
		int line = wanted ? tests[i].run() : 0;
		printf("%s %d %s%s\n", line ? "not ok" : "ok", i + 1, tests[i].name, wanted ? "" : " # SKIP not asked for");
		failed += line != 0;
	}
	return failed != 0;
}
