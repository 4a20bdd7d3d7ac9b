/* Jumps into the kernel's half of the address space: status 139. */
int main(void)
{
	((void (*)(void))0xffffffff80100000UL)();
	return 0;
}
