/* Stores to NULL without a handler: status 139. */
#include <stddef.h>

int main(void)
{
	*(volatile char *)NULL = 1;
	return 0;
}
