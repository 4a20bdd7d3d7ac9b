/* What dynamic.c uses of library.c. */
struct library_table {
	const char *text;
};
extern const char *const library_text;
/* Relocated, then read-only. */
extern const struct library_table library_table;
extern int library_counter;
extern char library_zeros[100000];
extern _Thread_local int library_own;
int library_count(void);
int library_sum(void);
