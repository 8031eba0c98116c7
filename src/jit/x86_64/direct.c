/* Guest memory of user mode: an access is the host's own, at the guest's address plus a base. Nothing is checked but
 * alignment where the guest asks for it; what the host refuses comes as a signal, and the region's table says which
 * instruction it was and where its registers are. */
#include <stddef.h>
#include <signal.h>
#include <ucontext.h>
#include "codegen.h"

struct mem direct_mem(const struct codegen *b, const struct ir_op *op, unsigned ra)
{
    static const uint8_t over[] = { [MEMORY_DIRECT] = SEG_GS, [MEMORY_DIRECT_32] = SEG_GS | ADDR_32, [MEMORY_FLAT] = 0 };
    struct mem m = mem_at(ra, op->disp);

    m.over = over[b->memory];
    return m;
}

/* The block has checked this alignment of the same address: who failed has not come here. If not, it is going to now. */
static bool known_aligned(struct codegen *b, ir_val addr, unsigned mask, unsigned rest)
{
    ir_val base = val_root(b, addr);

    for (unsigned n = 0; n < ALIGNED_MOST; n++) {
        const struct aligned *a = &b->aligned[n];

        if (a->base == base && (a->mask & mask) == mask && (a->rest & mask) == rest)
            return true;
    }
    b->aligned[b->aligned_next++ % ALIGNED_MOST] = (struct aligned){ base, mask, rest };
    return false;
}

/* Alignment, and that the access begins here. t: a temporary. */
void direct_check(struct codegen *b, const struct ir_op *op, unsigned ra, struct slow *s, unsigned t)
{
    unsigned align = (1u << ((op->mem & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT)) - 1;

    if (align && known_aligned(b, op->a, align, op->disp & align))
        align = 0;
    if (align && !(op->disp & align)) {
        test_ri(&b->c, true, ra, align);
        s->jump = jcc(&b->c, CC_NE);
    } else if (align) {
        lea(&b->c, false, t, mem_at(ra, op->disp));
        test_ri(&b->c, true, t, align);
        s->jump = jcc(&b->c, CC_NE);
    }
    s->at = b->c.p;
}

static bool wants_temp(const struct ir_op *op)
{
    return op->disp & ((1u << ((op->mem & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT)) - 1);
}

void lower_load_direct(struct codegen *b, const struct ir_op *op)
{
    bool vec = type_is_vec(op->type);
    unsigned ra = use_reg(b, op->a), tv = temp_reg(b, vec ? VEC_ALL : GPR_ALL), ta, rd;
    struct slow *s;

    ta = wants_temp(op) ? temp_reg(b, GPR_ALL) : NOREG;
    s = slow_new(b, op, SLOW_LOAD, ra);
    direct_check(b, op, ra, s, ta);
    rd = def_home_or(b, tv);
    if (vec) {
        b->used_ymm |= op->type == T_V256;
        s->vec = true;
        vec_load(b, memop_bytes(op->mem), rd, direct_mem(b, op, ra));
    } else {
        load_int(b, op, rd, direct_mem(b, op, ra));
    }
    slow_desc_of(b, s)->dst = rd;
    s->resume = b->c.p;
}

void lower_store_direct(struct codegen *b, const struct ir_op *op)
{
    unsigned size = op->mem & MEM_SIZE, rv = NOREG, ra = use_reg(b, op->a), swapped = NOREG, ta;
    bool be = op->mem & MEM_BE && size != MEM_8;
    struct mem m = direct_mem(b, op, ra);
    int32_t imm = 0;
    struct slow *s;
    struct slow_desc *d;

    if (be || !val_imm32(b, op->b, size == MEM_64, &imm))
        rv = use_reg(b, op->b);
    ta = wants_temp(op) ? temp_reg(b, GPR_ALL) : NOREG;
    if (be)
        swapped = temp_reg(b, GPR_ALL);
    s = slow_new(b, op, SLOW_STORE, ra);
    d = slow_desc_of(b, s);
    d->data = rv;
    d->imm = (int64_t)imm;
    if (rv != NOREG && rv >= XMM0)
        s->vec = true;
    direct_check(b, op, ra, s, ta);
    if (rv == NOREG) {
        store_imm(b, size, m, imm);
    } else if (rv >= XMM0) {
        vec_store(b, memop_bytes(op->mem), m, rv);
    } else if (be) {
        mov_rr(&b->c, true, swapped, rv);
        swap_bytes(b, size, swapped);
        store_reg(b, size, m, swapped);
    } else {
        store_reg(b, size, m, rv);
    }
    s->resume = b->c.p;
    if (op->mem & MEM_RELEASE)          /* before a later acquiring load, which itself costs nothing */
        lower_fence_wr(b);
}

/* ---- faults. Registers as the host's kernel saved them: Intel SDM vol. 1, 13.4 (XSAVE area), Linux's sigcontext.h. */

/* The upper halves are at 576 in every processor's standard format: they are the first extended component. */
enum { FXSAVE_XMM = 160, SW_RESERVED = 464, SW_MAGIC = 0x46505853, XSAVE_BV = 512, XSTATE_YMM = 4, XSAVE_YMM = 576 };

static void image_of(struct reg_image *im, const ucontext_t *uc)
{
    static const uint8_t place[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9,
                                       REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    const uint8_t *fp = (const uint8_t *)uc->uc_mcontext.fpregs;
    uint32_t magic;
    uint64_t present;

    for (unsigned r = 0; r < 16; r++)
        im->gpr[r] = uc->uc_mcontext.gregs[place[r]];
    memset(im->vec, 0, sizeof(im->vec));
    for (unsigned r = 0; r < 16; r++)
        memcpy(im->vec[r], fp + FXSAVE_XMM + 16 * r, 16);
    memcpy(&magic, fp + SW_RESERVED, 4);
    memcpy(&present, fp + XSAVE_BV, 8);
    if (magic != SW_MAGIC || !(present & XSTATE_YMM))
        return;
    for (unsigned r = 0; r < 16; r++)
        memcpy(im->vec[r] + 16, fp + XSAVE_YMM + 16 * r, 16);
}

bool codegen_fault(struct cpu *cpu, void *context, const uint8_t *code, const uint8_t *faults, unsigned nfaults,
                   struct code_fault *out)
{
    const ucontext_t *uc = context;
    uint32_t at = (const uint8_t *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP] - code;
    const struct fault_row *rows = (const struct fault_row *)faults;
    unsigned lo = 0, hi = nfaults;
    const struct slow_desc *d;
    struct reg_image im;

    while (lo < hi) {                   /* the last row that begins at or before `at` */
        unsigned mid = (lo + hi) / 2;

        if (rows[mid].at <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return false;
    d = (const struct slow_desc *)(code + rows[lo - 1].desc);
    image_of(&im, uc);
    slow_write_back(cpu, &im, d);
    *out = (struct code_fault){ .va = slow_address(d, &im), .bytes = 1u << (d->mem & MEM_SIZE),
                                .write = (d->kind != SLOW_LOAD && d->kind != SLOW_CALL) || d->mem & MEM_RW };
    return true;
}

uintptr_t codegen_context_pc(const void *context)
{
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

void codegen_leave(const struct codegen_stubs *stubs, void *context, uint64_t why)
{
    ucontext_t *uc = context;

    uc->uc_mcontext.gregs[REG_RAX] = (greg_t)why;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)stubs->stored_leave;
}
