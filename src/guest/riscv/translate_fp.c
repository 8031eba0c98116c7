/* Floating point: volume I, chapters 20 (F), 21 (D), 24 (Zfh, Zfhmin), 25 (Zfa). */
#include "riscv.h"

/* Volume II, 3.1.6.6. Once FS is Dirty the mode is another: the instruction begins again there, so that only the first one
 * after a switch comes by here. */
bool riscv_check_fp(struct riscv_t *t)
{
    if (t->mode & MODE_FS_OFF) {
        riscv_illegal(t);
        return false;
    }
    if ((t->mode & MODE_FS_CLEAN) && !(t->i->row->flags & RISCV_ROW_FPR)) {
        riscv_call(t, RISCV_HELP_fs_dirty, 0, 0, 0, 0);
        ir_exit_loop(t->ir, t->i->pc);
        return false;
    }
    return true;
}
