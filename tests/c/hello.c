/* Prints what the kernel passed at the start, and checks what every start-up relies on. */
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

extern char **environ;
static int failed;

static void check(int good, const char *what)
{
	if (!good) {
		printf("wrong: %s\n", what);
		failed = 1;
	}
}

int main(int argc, char **argv)
{
	static int data = 41;
	static int bss[4096];
	unsigned char sum = 0;
	const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);

	printf("hello\n");
	for (int i = 0; i < argc; i++)
		printf("argv[%d]=%s\n", i, argv[i]);
	for (char **e = environ; *e; e++)
		printf("env %s\n", *e);

	check(argc >= 1 && !argv[argc], "argv ends with NULL");
	check(data++ == 41 && !bss[0] && !bss[4095], "data and bss");
	check(getauxval(AT_PAGESZ) == 4096, "AT_PAGESZ");
	check(getauxval(AT_PHNUM) > 0 && getauxval(AT_PHENT) == 56, "AT_PHNUM, AT_PHENT");
	check(*(const uint32_t *)(getauxval(AT_PHDR) & ~4095UL) == 0x464c457f, "AT_PHDR is in the ELF's page");
	check(getauxval(AT_ENTRY) != 0, "AT_ENTRY");
	check(getauxval(AT_UID) == getauxval(AT_EUID) && !getauxval(AT_SECURE), "ids");
	for (int i = 0; random && i < 16; i++)
		sum |= random[i] ^ random[0];
	check(sum != 0, "AT_RANDOM");
	check(getauxval(AT_EXECFN) && *(const char *)getauxval(AT_EXECFN), "AT_EXECFN");
	check(read(0, &data, 1) == 0, "stdin is empty");
	fflush(stdout);
	fprintf(stderr, "hello on stderr\n");
	return failed;
}
