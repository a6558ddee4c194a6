/* Vectors and start of an lx106 core (call0 ABI; no register windows). */

#define INTERRUPT_CAUSE 4
#define STACK_PAINT 0xa5a5a5a5
/* Kernel mode, no exception, interrupts of level 1 masked. */
#define PS_START 1

    .section .vectors, "ax"         /* at a multiple of 256: link.ld */
board_vectors:

    .org 0x30                       /* exception in kernel mode */
    wsr     a0, excsave1
    j       exception

    .org 0x50                       /* exception in user mode */
    wsr     a0, excsave1
    j       exception

    .org 0x70                       /* exception in an exception */
    wsr     a0, excsave1
    j       fault

    .section .text.exception, "ax"
    .literal_position
    .align 4
/* The only interrupt is the UART's, and all it does is to end a wait. */
exception:
    rsr     a0, exccause
    bnei    a0, INTERRUPT_CAUSE, fault
    movi    a0, 0
    wsr     a0, intenable
    rsync
    rsr     a0, excsave1
    rfe

fault:
    movi    a1, board_stack_high
    rsr     a2, exccause
    rsr     a3, epc1
    rsr     a4, excvaddr
    movi    a0, PS_START
    wsr     a0, ps
    rsync
    movi    a5, board_trap
    jx      a5

    .section .text.board_restart, "ax"
    .literal_position
    .align 4
    .global board_restart
    .type board_restart, @function
board_restart:
    movi    a0, 0
    wsr     a0, intenable
    movi    a0, PS_START
    wsr     a0, ps
    movi    a0, board_vectors
    wsr     a0, vecbase
    rsync

    movi    a2, board_data_start
    movi    a3, board_data_end
    movi    a4, board_data_image
    j       2f
1:  l32i    a5, a4, 0
    s32i    a5, a2, 0
    addi    a4, a4, 4
    addi    a2, a2, 4
2:  bltu    a2, a3, 1b

    movi    a2, board_zero_start
    movi    a3, board_zero_end
    movi    a5, 0
    j       4f
3:  s32i    a5, a2, 0
    addi    a2, a2, 4
4:  bltu    a2, a3, 3b

    movi    a2, board_stack_low
    movi    a3, board_stack_high
    movi    a5, STACK_PAINT
    j       6f
5:  s32i    a5, a2, 0
    addi    a2, a2, 4
6:  bltu    a2, a3, 5b

    movi    a1, board_stack_high
    movi    a0, 0
    movi    a5, board_main
    jx      a5
