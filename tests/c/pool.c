/*
 * pool fill N | die | hang | check N: a libpmemobj pool on /dev/dax0.0 that holds a list of nodes and what they sum to.
 *
 * `fill` makes the pool where there is none, and adds N nodes, each in a transaction of its own. `die` is killed in the
 * middle of one, when node, head and sum are changed already; `hang` waits there until the power goes. `check` finds
 * exactly N nodes that agree with the sum.
 */
#include <libpmemobj.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

POBJ_LAYOUT_BEGIN(list);
POBJ_LAYOUT_ROOT(list, struct list);
POBJ_LAYOUT_TOID(list, struct node);
POBJ_LAYOUT_END(list);

struct node {
	TOID(struct node) next;
	uint64_t value;
	char text[100];
};

struct list {
	TOID(struct node) head;
	uint64_t count, sum;
};

static const char device[] = "/dev/dax0.0";
static PMEMobjpool *pool;
static TOID(struct list) list;
/* Static, for a transaction is a setjmp. */
static int failed;

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, pmemobj_errormsg());
	return failed = 1;
}

/* A transaction, which may be part of another. */
static void add(void)
{
	TX_BEGIN(pool) {
		struct list *root = D_RW(list);

		TX_ADD(list);
		TOID(struct node) added = TX_ZNEW(struct node);
		struct node *node = D_RW(added);
		node->value = ++root->count * 3;
		snprintf(node->text, sizeof(node->text), "node %lu", root->count);
		node->next = root->head;
		root->head = added;
		root->sum += node->value;
	} TX_ONABORT {
		fail("transaction");
	} TX_END
}

static void fill(uint64_t nodes)
{
	for (uint64_t i = 0; i < nodes && !failed; i++)
		add();
	printf("%lu nodes\n", D_RO(list)->count);
}

static void killed(void)
{
	kill(getpid(), SIGKILL);
}

static void waiting(void)
{
	for (;;)
		sleep(1);
}

/* Does not come to the end of a transaction. */
static void stop(void (*how)(void))
{
	TX_BEGIN(pool) {
		add();
		printf("stopped with %lu nodes\n", D_RO(list)->count);
		fflush(stdout);
		how();
	} TX_END
	fail("not stopped");
}

static void check(uint64_t nodes)
{
	uint64_t left = D_RO(list)->count, sum = 0;
	const struct node *node = D_RO(D_RO(list)->head);

	failed = left != nodes;
	for (; node && left; node = D_RO(node->next), left--) {
		char text[sizeof(node->text)];

		snprintf(text, sizeof(text), "node %lu", left);
		failed |= node->value != left * 3 || strncmp(node->text, text, sizeof(text));
		sum += node->value;
	}
	failed |= node || left || sum != D_RO(list)->sum;
	printf("%lu nodes, sum %lu of %lu, %s\n", D_RO(list)->count, sum, D_RO(list)->sum, failed ? "wrong" : "right");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "check";
	uint64_t nodes = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	pool = pmemobj_open(device, POBJ_LAYOUT_NAME(list));
	if (!pool && !strcmp(what, "fill"))
		pool = pmemobj_create(device, POBJ_LAYOUT_NAME(list), 0, 0600);
	if (!pool)
		return fail("pool");
	list = POBJ_ROOT(pool, struct list);
	if (!strcmp(what, "fill"))
		fill(nodes);
	else if (!strcmp(what, "die"))
		stop(killed);
	else if (!strcmp(what, "hang"))
		stop(waiting);
	else
		check(nodes);
	pmemobj_close(pool);
	return failed;
}
