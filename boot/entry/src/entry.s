# From the hypervisor's first instruction (PVH: 32-bit protected mode, paging off, flat segments,
# ebx = physical address of hvm_start_info; Xen's misc/pvh) to `kernel_main(start_info)` in the higher half.
#
# The other CPUs join on the way, from real mode (`ap_stub`), and end in `ap_main` (kernel/arch/smp).
#
# The tables made here serve each CPU for a few hundred microseconds: the first 4 GiB, readable and writable, at 0, at the
# physmap's base and (the first GiB of it) at the kernel's base. kernel/arch/paging builds the real ones.

    .set KERNEL_BASE, 0xffffffff80000000

# Where QEMU and Xen look for the entry point: type 18 is XEN_ELFNOTE_PHYS32_ENTRY. An 8-byte descriptor, for QEMU
# reads as many bytes as the ELF class has.
    .section .note.Xen, "a", @note
    .align 4
    .long 4                                 # length of the name
    .long 8                                 # length of the descriptor
    .long 18
    .asciz "Xen"
    .quad pvh_start - KERNEL_BASE

    # Fills a table with `count` entries: the first one, and each `step` more than the one before.
    .macro FILL table, first, step, count
    mov ebx, offset \table - KERNEL_BASE
    lea eax, [\first]
    mov ecx, \count
1:  mov [ebx], eax
    add eax, \step
    add ebx, 8
    dec ecx
    jnz 1b
    .endm

    .section .boot.text, "ax"
    .code32
    .global pvh_start
pvh_start:
    cld
    xor ebp, ebp                            # the boot CPU
    mov esi, ebx                            # cpuid clobbers ebx: keep start_info

    # Without long mode there is nobody to tell but the debug port and no way on.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode

    # 2048 entries of 2 MiB in four page directories: present, writable, huge.
    FILL boot_pd, 0x83, 0x200000, 2048
    FILL boot_pdpt, boot_pd - KERNEL_BASE + 3, 0x1000, 4

    # -2 GiB: entry 510 of the last page-directory-pointer table.
    mov dword ptr [boot_pdpt_kernel - KERNEL_BASE + 510 * 8], offset boot_pd - KERNEL_BASE + 3
    mov eax, offset boot_pdpt - KERNEL_BASE + 3
    mov dword ptr [boot_pml4 - KERNEL_BASE], eax
    mov dword ptr [boot_pml4 - KERNEL_BASE + 256 * 8], eax
    mov dword ptr [boot_pml4 - KERNEL_BASE + 511 * 8], offset boot_pdpt_kernel - KERNEL_BASE + 3

enable_long_mode:
    mov eax, 0x80000001
    cpuid
    mov edi, edx                            # bit 20: NX
    mov eax, cr4
    or eax, 0x20                            # PAE
    mov cr4, eax
    mov eax, offset boot_pml4 - KERNEL_BASE
    mov cr3, eax
    mov ecx, 0xc0000080                     # EFER
    rdmsr
    or eax, 0x100                           # LME
    bt edi, 20
    jnc 3f
    or eax, 0x800                           # NXE
3:  wrmsr
    mov eax, cr0
    and eax, 0x9fffffff                     # CD and NW, which INIT has set
    or eax, 0x80010001                      # PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer - KERNEL_BASE]
    # A far jump in bytes: the assembler's Intel syntax has no spelling for it in 32-bit code.
    .byte 0xea
    .long long_mode - KERNEL_BASE
    .word 8

# A CPU that comes from ap_stub: protected mode, paging off, cs is flat.
ap_flat:
    mov eax, 24
    mov ds, eax
    mov ss, eax
    mov ebp, 1                              # not the boot CPU
    jmp enable_long_mode

no_long_mode:
    mov esi, offset no_long_mode_text - KERNEL_BASE
4:  lodsb
    test al, al
    jz 5f
    mov dx, 0x3f8
    out dx, al
    jmp 4b
5:  mov al, 0x31
    out 0xf4, al                            # isa-debug-exit, where there is one
    cli
    hlt
    jmp 5b

    .code64
long_mode:
    movabs rax, offset high_half
    jmp rax

    .section .text.high_half, "ax"
high_half:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    # Not 0: `syscall` brings a stack segment like this one, and what TCG has translated under another it translates
    # again.
    mov eax, 24
    mov ss, eax
    test ebp, ebp
    jnz ap_high_half
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp                            # ends backtraces
    mov edi, esi                            # kernel_main(start_info): upper half of rdi is cleared
    call kernel_main
    ud2

# The early tables do not show the stack: the kernel's own come first.
ap_high_half:
    mov rax, [rip + ap_root]
    mov cr3, rax
    xor eax, eax
    xchg rax, [rip + ap_stack]              # a CPU that is late finds none
    test rax, rax
    jz 6f
    mov rsp, rax
    xor ebp, ebp
    call ap_main
    ud2
6:  cli
    hlt
    jmp 6b

    .section .rodata.boot, "a"
no_long_mode_text:
    .asciz "<0>[    0.000000] daxite: this CPU has no 64-bit mode\n"
    .align 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff                # 64-bit code, ring 0
    .quad 0x00cf9a000000ffff                # 32-bit code
    .quad 0x00cf92000000ffff                # data
boot_gdt_pointer:
    .word 31
    .long boot_gdt - KERNEL_BASE

# The first code of the other CPUs, in real mode, wherever in the low megabyte it was copied to: cs is its page. In
# bytes where the assembler's Intel syntax has no spelling for an operand of 32 bits in 16-bit code.
    .code16
    .global ap_stub
ap_stub:
    cli
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16            # lgdt [ap_gdt_pointer]
    .word ap_gdt_pointer - ap_stub
    mov eax, cr0
    or al, 1                                # PE
    mov cr0, eax
    .byte 0x66, 0xea                        # jmp 16:ap_flat
    .long ap_flat - KERNEL_BASE
    .word 16
ap_gdt_pointer:
    .word 31
    .long boot_gdt - KERNEL_BASE
    .global ap_stub_end
ap_stub_end:
    .code64

    .section .bss.boot, "aw", @nobits
    .align 4096
boot_pml4:          .skip 4096
boot_pdpt:          .skip 4096
boot_pdpt_kernel:   .skip 4096
boot_pd:            .skip 4 * 4096
    # What the boot CPU offers to the next one.
    .global ap_root
ap_root:            .skip 8
    .global ap_stack
ap_stack:           .skip 8
    .align 4096
    # The page below the stack is a guard once the kernel's own tables are loaded.
    .global boot_stack_guard
boot_stack_guard:   .skip 4096
                    .skip 64 * 1024
boot_stack_top:
