# The ways between ring 3 and the kernel.
#
# While a program runs, TSS.rsp0 and gs:[CONTEXT_END] point behind the exception frame of its UserContext: the CPU
# pushes the frame, and this file the registers, straight into it. Then the kernel's own stack comes back, and
# `enter_user` returns to its caller as if it had been a function call. Interrupts are off in the
# kernel but where it idles and at task::preempt_point.
#
# The per-CPU block (arch/percpu.rs), through gs while in the kernel:
    .set CONTEXT_END, 8                     # just behind the running UserContext's frame
    .set KERNEL_RSP, 16                     # the stack on which enter_user was called
    .set SCRATCH, 24                        # the program's rsp for a moment in syscall_entry
    .set TSS_RSP0, 32                       # address of TSS.rsp0

# UserContext (arch/context.rs)
    .set FRAME_END, 176
    .set KERNEL_SS, 0x18
    .set USER_SS, 0x2b
    .set USER_CS, 0x33

    .macro PUSH_REGISTERS
    .irp register, rdi, rsi, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    push \register
    .endr
    .endm

    .macro POP_REGISTERS
    .irp register, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi
    pop \register
    .endr
    .endm

    .section .text.trap, "ax"

# enter_user(context: rdi, sysret: esi): runs the program until it traps. Of the caller's registers only rbx and rbp
# come back; UserContext::enter tells the compiler.
    .global enter_user
enter_user:
    push rbx
    push rbp
    mov gs:[KERNEL_RSP], rsp
    lea rax, [rdi + FRAME_END]
    mov gs:[CONTEXT_END], rax
    mov rcx, gs:[TSS_RSP0]
    mov [rcx], rax
    mov rsp, rdi
    test esi, esi                           # the flags live until the jump: neither pop nor mov changes them
    POP_REGISTERS
    jz 1f
    # rcx is rip, r11 is rflags, rip is canonical: UserContext::enter has checked.
    mov rsp, [rsp + 40]
    swapgs
    sysretq
1:  add rsp, 16                             # vector and error code
    swapgs
    iretq

    .global syscall_entry
syscall_entry:
    swapgs
    mov gs:[SCRATCH], rsp
    mov rsp, gs:[CONTEXT_END]
    push USER_SS
    push qword ptr gs:[SCRATCH]
    push r11
    push USER_CS
    push rcx
    push 0
    push qword ptr [rip + SYSCALL_VECTOR]   # what stands for the vector
    # FMASK has cleared DF, AC and IF already.
    PUSH_REGISTERS
    mov rsp, gs:[KERNEL_RSP]
    jmp back_in_kernel

trap_common:
    test byte ptr [rsp + 24], 3             # CS of the interrupted code
    jz kernel_trap_entry
    swapgs
    PUSH_REGISTERS
    mov rsp, gs:[KERNEL_RSP]
    push 2                                  # exceptions keep the program's AC and DF: clear both
    popfq
    mov ecx, KERNEL_SS                      # an exception brings 0: TCG would translate what runs now a second time
    mov ss, ecx
back_in_kernel:
    pop rbp
    pop rbx
    ret

# A trap of the kernel itself, or an interrupt while it idles.
kernel_trap_entry:
    PUSH_REGISTERS
    push 2                                  # AC, which copy_user or a program may have set, and DF: clear both
    popfq
    mov rdi, rsp
    call kernel_trap
    POP_REGISTERS
    add rsp, 16
    iretq

# NMI, double fault and machine check, wherever they come from, each on a stack of its own. They may hit between the
# kernel's entry and its swapgs: whose gs it is tells the MSR, for the kernel's block lies in the upper half.
own_stack_entry:
    PUSH_REGISTERS
    push 2
    popfq
    mov ecx, 0xc0000101                     # GS_BASE
    rdmsr
    mov ebx, edx
    test ebx, ebx
    js 1f
    swapgs
1:  mov rdi, rsp
    call kernel_trap
    test ebx, ebx
    js 2f
    swapgs
2:  POP_REGISTERS
    add rsp, 16
    iretq

# switch_stacks(save: rdi, load: rsi): leaves the current stack, with its pointer in [save], and goes on where the
# other one left, or where a new one was made to begin (task/switch.rs).
    .global switch_stacks
switch_stacks:
    .irp register, rbx, rbp, r12, r13, r14, r15
    push \register
    .endr
    mov [rdi], rsp
    mov rsp, rsi
    .irp register, r15, r14, r13, r12, rbp, rbx
    pop \register
    .endr
    ret

# One stub a vector, 16 bytes each: trap_stubs + 16 * vector.
    .align 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .align 16
    # These push an error code themselves (SDM 3A, table 6-1).
    .if (vector == 8) || (vector == 10) || (vector == 11) || (vector == 12) || (vector == 13) || (vector == 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    push vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp own_stack_entry
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr
    .align 16

# copy_user(to: rdi, from: rsi, len: rdx) -> rax: bytes not copied. One of the two is a program's address; SMAP is
# opened around the copy. A fault that cannot be served continues at copy_user_done with rcx bytes left.
    .global copy_user
copy_user:
    mov rcx, rdx
    cmp byte ptr [rip + smap_is_on], 0
    je copy_user_instruction
    stac
    .global copy_user_instruction
copy_user_instruction:
    rep movsb
    .global copy_user_done
copy_user_done:
    cmp byte ptr [rip + smap_is_on], 0
    je 1f
    clac
1:  mov rax, rcx
    ret

# zero_user(to: rdi, words: rsi) -> rax: words of 8 bytes not zeroed. As above.
    .global zero_user
zero_user:
    mov rcx, rsi
    xor eax, eax
    cmp byte ptr [rip + smap_is_on], 0
    je zero_user_instruction
    stac
    .global zero_user_instruction
zero_user_instruction:
    rep stosq
    jmp copy_user_done

# exchange_user(word: rdi, expected: rsi, new: edx) -> rax: 0, or 4 when the word is not there. Puts `new` in the place
# of what rsi points to, if that is there, and leaves there what was found. As above.
    .global exchange_user
exchange_user:
    mov ecx, 4
    mov eax, [rsi]
    cmp byte ptr [rip + smap_is_on], 0
    je exchange_user_instruction
    stac
    .global exchange_user_instruction
exchange_user_instruction:
    lock cmpxchg [rdi], edx
    mov [rsi], eax
    xor ecx, ecx
    jmp copy_user_done
