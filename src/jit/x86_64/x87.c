/* Guests' x87 instructions as the host's own (IR_CALL_HOST). While cpu->fpu_on_host is set, the host's x87 holds the guest's
 * registers, status and control word, with all exceptions masked, so that an instruction does here what it does there: stack
 * faults, flags, C1 and all. Where it is not set, the helper is called by the slow path of memory accesses; it may bring the
 * registers here. C code has no use for the x87, so they stay over calls; the loop brings them home. */
#include <stddef.h>
#include "codegen.h"

/* ---- the registers as a whole. SDM vol. 1, 8.1.10; vol. 2, FNSAVE, FRSTOR */

static void x87_load(const uint8_t *image) { __asm__ volatile("frstor %0" : : "m"(*(const uint8_t(*)[HOST_FPU_IMAGE])image)); }
static void x87_save(uint8_t *image) { __asm__ volatile("fnsave %0" : "=m"(*(uint8_t(*)[HOST_FPU_IMAGE])image)); }

const struct host_fpu *codegen_host_fpu(void)
{
    static const struct host_fpu x87 = { x87_load, x87_save };

    return host_features()->x87 ? &x87 : NULL;
}

/* ---- instructions */

/* Operands, in registers before the check. */
struct insn { unsigned opcode, modrm, ra, rc, t; };

static void emit_bytes(struct codegen *b, const struct insn *x)
{
    put8(&b->c, x->opcode);
    put8(&b->c, x->modrm);
}

static void emit_compare(struct codegen *b, const struct insn *x)
{
    emit_bytes(b, x);
    put8(&b->c, 0x9f);                  /* lahf: of ZF, PF, CF; FCOMI cleared the others */
    op_rr(&b->c, M_0F | 0xb6, RAX, 4);  /* movzx eax, ah */
    alu_ri(&b->c, ALU_AND, false, RAX, 0x45);
    def_in(b, RAX);
}

static void emit_status(struct codegen *b)
{
    op_rr(&b->c, 0xdf, 4, RAX);         /* fnstsw ax */
    op_rr(&b->c, M_0F | 0xb7, RAX, RAX);
    def_in(b, RAX);
}

/* The bits that the register has, 8.1.5. */
static void emit_control(struct codegen *b, const struct insn *x, int32_t fpcw)
{
    mov_rr(&b->c, false, x->t, x->rc);
    alu_ri(&b->c, ALU_AND, false, x->t, 0x1f3f);
    alu_ri(&b->c, ALU_OR, false, x->t, 0x40);
    op_rm(&b->c, 0x89 | P_66, x->t, state_mem(fpcw));
    op_rm(&b->c, 0xd9, 5, state_mem(fpcw));
}

/* Goes on if the registers are here; FLDCW: and all exceptions stay masked. */
static void emit_check(struct codegen *b, enum ir_host_insn kind, const struct insn *x, struct slow *s)
{
    if (kind == HOST_X87_CONTROL) {
        op_rm(&b->c, M_0F | 0xb6, x->t, STATE(fpu_on_host));
        alu_rr(&b->c, ALU_AND, false, x->t, x->rc);
        alu_ri(&b->c, ALU_CMP, false, x->t, FPU_ON_HOST);
    } else {
        op_rm(&b->c, 0x80, ALU_CMP, STATE(fpu_on_host));
        put8(&b->c, FPU_ON_HOST);
    }
    s->jump = jcc(&b->c, CC_NE);
}

void lower_call_host(struct codegen *b, const struct ir_op *op)
{
    struct insn x = { .ra = NOREG, .rc = NOREG, .t = NOREG };
    enum ir_host_insn kind;
    struct slow_desc *d;
    uint64_t imm = 0;
    struct slow *s;

    val_const(b, op->b, &imm);
    kind = imm >> 48;
    x.opcode = imm >> 40 & 0xff;
    x.modrm = imm >> 32 & 0xff;
    if (kind == HOST_X87_COMPARE || kind == HOST_X87_STATUS)
        take_reg(b, RAX);
    if (op->a)
        x.ra = use_reg(b, op->a);
    if (op->c)
        x.rc = use_reg(b, op->c);
    if (kind == HOST_X87_CONTROL)
        x.t = temp_reg(b, GPR_ALL);
    s = slow_new(b, op, SLOW_CALL, x.ra);
    d = slow_desc_of(b, s);
    d->data = x.rc;
    d->lo = op->aux;
    d->imm = (uint32_t)imm;
    emit_check(b, kind, &x, s);
    switch (kind) {
    case HOST_X87_MEMORY:
        s->at = b->c.p;
        op_rm(&b->c, x.opcode, x.modrm >> 3 & 7, direct_mem(b, op, x.ra));
        break;
    case HOST_X87_COMPARE: emit_compare(b, &x); break;
    case HOST_X87_STATUS: emit_status(b); break;
    case HOST_X87_CONTROL: emit_control(b, &x, b->ir->guest->fpu_control); break;
    case HOST_X87_MOVE_IF:
        test_rr(&b->c, false, x.rc, x.rc);
        emit_bytes(b, &x);
        break;
    default: emit_bytes(b, &x);
    }
    if (op->dst)
        slow_desc_of(b, s)->dst = RAX;
    s->resume = b->c.p;
}
