/*
 * A program starts with fresh registers, whatever ran before it: general registers and xmm0-15 are 0, the
 * FPU's and SSE unit's control words have their reset values, the stack is aligned and DF is clear.
 * Status 0, or the number of the first check that failed. Run it after a program that fills registers.
 */
	.intel_syntax noprefix
	.globl _start
_start:
	mov [rip + rsp_at_start], rsp
	pushfq
	pop qword ptr [rip + flags]
	.irp r, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	or rax, \r
	.endr
	mov edi, 1
	test rax, rax
	jnz 1f

	.irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	por xmm0, xmm\n
	.endr
	movups [rip + vector], xmm0
	mov rax, [rip + vector]
	or rax, [rip + vector + 8]
	mov edi, 2
	jnz 1f

	stmxcsr [rip + control]
	mov edi, 3
	cmp dword ptr [rip + control], 0x1f80
	jne 1f

	fnstcw [rip + control]
	mov edi, 4
	cmp word ptr [rip + control], 0x37f
	jne 1f

	mov edi, 5
	test qword ptr [rip + rsp_at_start], 15
	jnz 1f

	mov edi, 6
	test qword ptr [rip + flags], 0x400
	jnz 1f

	xor edi, edi
1:	mov eax, 231		/* exit_group */
	syscall
	ud2

	.bss
	.balign 16
vector:	.skip 16
rsp_at_start: .skip 8
flags:	.skip 8
control:	.skip 8

	.section .note.GNU-stack, "", @progbits
