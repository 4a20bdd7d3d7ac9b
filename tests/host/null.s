# A PVH guest whose first instructions power the machine off: QEMU's own share of a start.
#
# gcc -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-Ttext=0x100000 -o build/null.elf tests/host/null.s
        .code32
        .text
        .globl _start
_start:
        movw    $0x604, %dx             # PM1a_CNT of QEMU's q35 and pc
        movw    $0x2000, %ax            # SLP_EN, sleep type 0: soft off
        outw    %ax, %dx
1:      hlt
        jmp     1b

# XEN_ELFNOTE_PHYS32_ENTRY: by this QEMU knows a PVH kernel.
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 8, 18
        .asciz  "Xen"
        .quad   _start

        .section .note.GNU-stack, "", @progbits
