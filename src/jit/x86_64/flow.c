/* Control: labels, branches, polls, exits, calls of C. */
#include <stddef.h>
#include "codegen.h"

static void fixup_add(struct codegen *b, struct label *l, uint8_t *at)
{
    if (l->addr) {
        jump_bind(at, l->addr);
        return;
    }
    if (b->nfixup == MAX_FIXUPS)
        codegen_overflow(b);
    b->fixup[b->nfixup] = (struct fixup){ at, l->fixups };
    l->fixups = ++b->nfixup;            /* 0: end of list */
}

static void label_here(struct codegen *b, struct label *l)
{
    l->addr = b->c.p;
    l->bound = true;
    for (int f = l->fixups; f; f = b->fixup[f - 1].next)
        jump_bind(b->fixup[f - 1].at, b->c.p);
}

static bool label_single(const struct label *l) { return l->refs == 1 && !l->falls && !l->backward; }

void lower_label(struct codegen *b, const struct ir_op *op)
{
    struct label *l = &b->label[op->aux];

    if (!l->refs) {
        if (l->falls)
            block_end(b);
        else
            state_reset(b);             /* nobody comes here */
    } else if (label_single(l)) {
        if (l->snap >= 0)
            snapshot_restore(b, l->snap);
        else
            state_reset(b);             /* its branch was dead */
    } else {
        if (l->falls)
            canonicalize(b, l);
        else if (!l->fixed)
            l->fixed = true;            /* reached from below alone: everything is in memory */
        bind_canonical(b, l);
    }
    label_here(b, l);
}

struct cold *cold_new(struct codegen *b, uint8_t *jump)
{
    struct cold *c;

    if (b->ncold == MAX_COLD)
        codegen_overflow(b);
    c = &b->cold[b->ncold++];
    *c = (struct cold){ .jump = jump, .snap = snapshot_take(b), .insn_pc = b->insn_pc };
    return c;
}

static void poll_compare(struct codegen *b) { alu_mi(&b->c, ALU_CMP, false, STATE(exit_request), 0); }

void lower_poll(struct codegen *b, const struct ir_op *op)
{
    memo_forget(b);
    poll_compare(b);
    cold_new(b, jcc(&b->c, CC_NE))->pc = op->imm;
}

/* Index of the next op from `i` on that is neither dead nor a NOP; nops at the end. */
static unsigned next_op(const struct codegen *b, unsigned i)
{
    while (i < b->ir->nops && (b->ir->ops[i].op == IR_NOP || (b->an && b->an->use[i].flags & OPX_DEAD)))
        i++;
    return i;
}

static bool is_label(const struct codegen *b, unsigned i, unsigned label)
{
    return i < b->ir->nops && b->ir->ops[i].op == IR_LABEL && b->ir->ops[i].aux == label;
}

void lower_br(struct codegen *b, const struct ir_op *op)
{
    struct label *l = &b->label[op->aux];
    bool next = is_label(b, next_op(b, b->i + 1), op->aux);

    block_end(b);
    if (label_single(l))
        l->snap = snapshot_take(b);
    else
        canonicalize(b, l);
    if (!next || l->addr)
        fixup_add(b, l, jmp(&b->c));
}

/* `brcond l; [poll;] br back; l:` is a loop's end: the branch back is the likely way. */
static bool loop_end(struct codegen *b, const struct ir_op *op)
{
    unsigned br = next_op(b, b->i + 1), poll = 0, after;
    const struct ir_op *ops = b->ir->ops;
    struct label *back;
    enum host_cc cc;
    uint8_t *skip;

    if (br < b->ir->nops && ops[br].op == IR_POLL)
        poll = br, br = next_op(b, br + 1);
    after = next_op(b, br + 1);
    if (br >= b->ir->nops || ops[br].op != IR_BR || !is_label(b, after, op->aux))
        return false;
    back = &b->label[ops[br].aux];
    if (!back->addr || label_single(back))
        return false;
    canonicalize(b, back);
    b->locked |= back->valid;
    cc = lower_compare(b, op);
    block_end(b);
    if (!poll) {
        jcc_to(&b->c, cc ^ 1, back->addr);
    } else {
        skip = jcc(&b->c, cc);
        poll_compare(b);
        jcc_to(&b->c, CC_E, back->addr);
        cold_new(b, jmp(&b->c))->pc = ops[poll].imm;
        jump_bind(skip, b->c.p);
    }
    b->skip_to = after;
    return true;
}

/* `brcond l; a few ops that leave; l:`: the ops go to the cold end. */
static bool cold_arm(struct codegen *b, const struct ir_op *op)
{
    const struct ir_op *ops = b->ir->ops;
    unsigned end = b->i + 1, after;
    enum host_cc cc;
    struct cold *c;

    while (end < b->ir->nops && end < b->i + 16 && ops[end].op != IR_LABEL && ops[end].op != IR_BRCOND &&
           !(ir_opinfo[ops[end].op].flags & OPF_ENDS))
        end++;
    after = next_op(b, end + 1);
    if (end >= b->ir->nops || ops[end].op < IR_EXIT_JUMP || !is_label(b, after, op->aux))
        return false;
    cc = lower_compare(b, op);
    block_end(b);
    c = cold_new(b, jcc(&b->c, cc ^ 1));
    c->from = b->i + 1;
    c->to = end + 1;
    b->skip_to = after;
    return true;
}

void lower_brcond(struct codegen *b, const struct ir_op *op)
{
    struct label *l = &b->label[op->aux];
    enum host_cc cc;

    if (label_single(l)) {
        if (loop_end(b, op) || cold_arm(b, op)) {
            l->refs = 0;
            l->falls = true;
            return;
        }
        cc = lower_compare(b, op);
        block_end(b);
        l->snap = snapshot_take(b);
    } else {
        canonicalize(b, l);
        b->locked |= l->valid;
        cc = lower_compare(b, op);
        block_end(b);
    }
    if (l->addr)
        jcc_to(&b->c, cc, l->addr);
    else
        fixup_add(b, l, jcc(&b->c, cc));
}

/* ---- leaving */

static void jump_out(struct codegen *b, const uint8_t *rx)
{
    put8(&b->c, 0xe9);
    put32(&b->c, rx - (b->c.p + 4 + b->rx_delta));
    reloc_add(b, RELOC_STUB, 4);
}

static void jcc_out(struct codegen *b, enum host_cc cc, const uint8_t *rx)
{
    put8(&b->c, 0x0f);
    put8(&b->c, 0x80 | cc);
    put32(&b->c, rx - (b->c.p + 4 + b->rx_delta));
    reloc_add(b, RELOC_STUB, 4);
}

/* rax = pc_page + offset */
static void pc_to_rax(struct codegen *b, int64_t offset) { pc_to_reg(b, RAX, offset); }

/* To the guest address in rax through the jump cache. */
static void jump_by_cache(struct codegen *b)
{
    op_rr(&b->c, 0x69, RCX, RAX);       /* jump_hash() * sizeof(struct jump_entry) */
    put32(&b->c, JUMP_HASH_FACTOR);
    shift_ri(&b->c, SH_SHR, false, RCX, 32 - JUMP_CACHE_MOST - 4);
    alu_rm(&b->c, ALU_AND, false, RCX, STATE(jump_mask));
    alu_rm(&b->c, ALU_ADD, true, RCX, STATE(jump_cache));
    alu_rm(&b->c, ALU_CMP, true, RAX, mem_at(RCX, offsetof(struct jump_entry, pc)));
    jcc_out(b, CC_NE, b->lookup);
    alu_ri(&b->c, ALU_AND, true, RAX, -CPU_PAGE_SIZE);
    mov_store(&b->c, true, STATE(pc_page), RAX);
    op_rm(&b->c, 0xff, 4, mem_at(RCX, offsetof(struct jump_entry, code)));
}
_Static_assert(sizeof(struct jump_entry) == 16, "indexed by a shift of 4");

static void exit_linked(struct codegen *b, const struct ir_op *op)
{
    while (((uintptr_t)b->c.p + 1) & 3)
        put8(&b->c, 0x90);
    b->out->patch[op->aux] = jmp(&b->c);
    mov_imm(&b->c, RAX, b->out->first_exit + op->aux);
    reloc_add(b, RELOC_EXIT, 4);
    jump_out(b, b->leave);
}

/* User mode: regions are known by their virtual addresses, so that all direct exits can be linked. */
static void exit_in_process(struct codegen *b, const struct ir_op *op)
{
    if ((uint64_t)op->imm >= CPU_PAGE_SIZE) {
        mov_pc(b, RAX, (b->ir->page + op->imm) & -(uint64_t)CPU_PAGE_SIZE);
        mov_store(&b->c, true, STATE(pc_page), RAX);
    }
    exit_linked(b, op);
}

static void exit_direct(struct codegen *b, const struct ir_op *op)
{
    if (b->memory != MEMORY_TLB) {
        exit_in_process(b, op);
        return;
    }
    /* What begins near the page's end may straddle, and is not linked with: its second page must be looked at. */
    if (op->imm < 0 || op->imm > CPU_PAGE_SIZE - 16) {
        pc_to_rax(b, op->imm);
        jump_by_cache(b);
        return;
    }
    exit_linked(b, op);
}

static void exit_to_loop(struct codegen *b, int64_t offset, const uint8_t *stub)
{
    pc_to_rax(b, offset);
    jump_out(b, stub);
}

void lower_exit(struct codegen *b, const struct ir_op *op)
{
    if (b->limit - b->c.p < 2048)
        codegen_overflow(b);
    if (op->op == IR_EXIT_INDIRECT || op->op == IR_EXIT_LOOP_PC)
        use_in(b, op->a, RAX);
    if (op->op == IR_EXIT_JUMP || op->op == IR_EXIT_INDIRECT)
        canonicalize_exit(b);
    else
        slots_flush_all(b);
    switch (op->op) {
    case IR_EXIT_JUMP: exit_direct(b, op); break;
    case IR_EXIT_INDIRECT: jump_by_cache(b); break;
    case IR_EXIT_LOOP: exit_to_loop(b, op->imm, b->stubs->stored_loop); break;
    default: jump_out(b, b->stubs->stored_loop);
    }
}

void emit_cold(struct codegen *b)
{
    for (unsigned i = 0; i < b->ncold; i++) {
        const struct cold c = b->cold[i];

        if (b->limit - b->c.p < 4096)
            codegen_overflow(b);
        jump_bind(c.jump, b->c.p);
        b->i = c.from;
        snapshot_restore(b, c.snap);
        b->insn_pc = c.insn_pc;
        if (c.from != c.to) {
            lower_range(b, c.from, c.to);
        } else {
            canonicalize_exit(b);
            exit_to_loop(b, c.pc, b->loop);
        }
    }
}

/* ---- calls */

void emit_call_c(struct codegen *b, const void *fn)
{
    int64_t rel = (intptr_t)fn - (intptr_t)(b->c.p + 5 + b->rx_delta);

    if (rel == (int32_t)rel) {
        put8(&b->c, 0xe8);
        put32(&b->c, rel);
        reloc_add(b, RELOC_C, 4);
    } else {
        if (b->out->relocs)
            b->out->relocs->fixed = true;
        mov_imm(&b->c, RAX, (uintptr_t)fn);
        op_rr(&b->c, 0xff, 2, RAX);
    }
}

void vzeroupper(struct codegen *b)
{
    put8(&b->c, 0xc5);
    put8(&b->c, 0xf8);
    put8(&b->c, 0x77);
}

struct arg { uint8_t target, src; bool is_const; uint64_t imm; };

/* Moves that happen at once: each when its target is no other's source; a ring is opened by an exchange. */
static void move_args(struct codegen *b, struct arg *arg, unsigned n)
{
    uint32_t left = (1u << n) - 1;

    while (left) {
        bool moved = false;

        for (unsigned i = 0; i < n; i++) {
            bool blocked = false;

            if (!(left >> i & 1))
                continue;
            for (unsigned j = 0; j < n; j++)
                if (j != i && left >> j & 1 && !arg[j].is_const && arg[j].src == arg[i].target)
                    blocked = true;
            if (blocked)
                continue;
            if (arg[i].is_const)
                mov_imm(&b->c, arg[i].target, arg[i].imm);
            else if (arg[i].src != arg[i].target)
                mov_rr(&b->c, true, arg[i].target, arg[i].src);
            left &= ~(1u << i);
            moved = true;
        }
        if (!moved) {
            unsigned i = __builtin_ctz(left), src = arg[i].src, dst = arg[i].target;

            op_rr(&b->c, 0x87 | OP_W, src, dst);
            left &= ~(1u << i);
            for (unsigned j = 0; j < n; j++)
                if (left >> j & 1 && !arg[j].is_const)
                    arg[j].src = arg[j].src == src ? dst : arg[j].src == dst ? src : arg[j].src;
        }
    }
}

void mxcsr_store(struct codegen *b) { op_rm(&b->c, M_0F | 0xae, 3, STATE(fp_control)); }
void mxcsr_load(struct codegen *b) { op_rm(&b->c, M_0F | 0xae, 2, STATE(fp_control)); }

/* Arguments beyond registers go by address of a place in the frame. */
static void gather_args(struct codegen *b, const struct ir_op *op, const struct ir_helper *h, struct arg *arg,
                        uint8_t *vec_src)
{
    static const uint8_t targets[] = { RSI, RDX, RCX, R8, R9 };
    const ir_val v[4] = { op->a, op->b, op->c, op->d };
    unsigned first = type_is_vec(h->ret);

    for (unsigned i = 0; i < h->nargs; i++) {
        struct arg *a = &arg[i];

        *a = (struct arg){ .target = targets[i + first] };
        vec_src[i] = NOREG;
        if (type_is_vec(h->args[i])) {
            vec_src[i] = use_reg(b, v[i]);
            a->is_const = true;         /* an address, made after the moves */
        } else if (val_const(b, v[i], &a->imm)) {
            a->is_const = true;
        } else {
            struct value *x = value_of(b, v[i]);

            a->src = use_reg(b, v[i]);
            if (h->args[i] == T_I32 && !(x->flags & VAL_ZX)) {
                unsigned t = temp_reg(b, GPR_ALL);      /* zero-extended, as the interface says */

                mov_rr(&b->c, false, t, a->src);
                a->src = t;
            }
        }
    }
}

static void store_pc(struct codegen *b, uint32_t avoid)
{
    unsigned t = temp_reg(b, GPR_ALL & ~avoid);

    mov_load(&b->c, true, t, STATE(pc_page));
    if (b->insn_pc)
        alu_ri(&b->c, ALU_ADD, true, t, b->insn_pc);
    mov_store(&b->c, true, STATE(pc), t);
    b->locked &= ~(1u << t);
    b->temps &= ~(1u << t);
}

void lower_call(struct codegen *b, const struct ir_op *op)
{
    const struct ir_helper *h = b->ir->helpers[op->aux];
    struct arg arg[4];
    uint8_t vec_src[4];

    if (b->limit - b->c.p < 2048)
        codegen_overflow(b);
    memo_forget(b);
    if (h->flags & HELPER_RAISES)
        store_pc(b, 0);
    gather_args(b, op, h, arg, vec_src);
    if (h->flags & (HELPER_READS | HELPER_RAISES | HELPER_WRITES))
        slots_flush_all(b);
    if (h->flags & HELPER_WRITES)
        slots_forget_all(b);
    if (h->flags & HELPER_FP)
        mxcsr_store(b);
    for (unsigned i = 0; i < h->nargs; i++)
        if (vec_src[i] != NOREG)
            vec_store(b, ir_type_bytes(h->args[i]), mem_at(RSP, FRAME_CALL + 32 * i), vec_src[i]);
    evict_caller_saved(b);
    move_args(b, arg, h->nargs);
    for (unsigned i = 0; i < h->nargs; i++)
        if (vec_src[i] != NOREG)
            lea(&b->c, true, arg[i].target, mem_at(RSP, FRAME_CALL + 32 * i));
    if (type_is_vec(h->ret))
        lea(&b->c, true, RSI, mem_at(RSP, FRAME_CALL + 32 * 4));
    lea_cpu(&b->c, RDI);
    if (b->used_ymm)
        vzeroupper(b);
    emit_call_c(b, h->fn);
    if (h->flags & HELPER_FP)
        mxcsr_load(b);
    if (!op->dst)
        return;
    if (type_is_vec(op->type)) {
        vec_load(b, ir_type_bytes(op->type), def_reg(b), mem_at(RSP, FRAME_CALL + 32 * 4));
    } else {
        b->locked = b->temps = 0;
        def_in(b, RAX);
        b->val[op->dst].flags &= ~VAL_ZX;       /* the ABI leaves bits 63:32 of a 32-bit result undefined */
    }
}
