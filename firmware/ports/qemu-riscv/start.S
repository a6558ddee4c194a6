/* Start and traps of a 32-bit RISC-V core in machine mode. */

#define STACK_PAINT 0xa5a5a5a5

    .section .start, "ax"
    .global board_restart
    .type board_restart, @function
board_restart:
    csrci   mstatus, 8              /* interrupts end a wait, and are never taken */
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      t0, fault
    csrw    mtvec, t0

    la      t0, board_data_start
    la      t1, board_data_end
    la      t2, board_data_image
    j       2f
1:  lw      t3, 0(t2)
    sw      t3, 0(t0)
    addi    t2, t2, 4
    addi    t0, t0, 4
2:  bltu    t0, t1, 1b

    la      t0, board_zero_start
    la      t1, board_zero_end
    j       4f
3:  sw      zero, 0(t0)
    addi    t0, t0, 4
4:  bltu    t0, t1, 3b

    la      t0, board_stack_low
    la      t1, board_stack_high
    li      t2, STACK_PAINT
    j       6f
5:  sw      t2, 0(t0)
    addi    t0, t0, 4
6:  bltu    t0, t1, 5b

    la      sp, board_stack_high
    j       board_main

    .align 4
fault:
    la      sp, board_stack_high
    csrr    a0, mcause
    csrr    a1, mepc
    csrr    a2, mtval
    j       board_trap
