/* Guest memory: the soft TLB's hit path inline, everything else out of line. A slow path is one call and a
 * descriptor in the code behind it; codegen_slow_path() reads that, so that nothing is emitted per register. */
#include <stddef.h>
#include <stdlib.h>
#include "codegen.h"

/* Notes what a slow path must know of this moment: which slots are newer in registers than in memory. */
struct slow *slow_new(struct codegen *b, const struct ir_op *op, unsigned kind, unsigned addr)
{
    struct slow *s;
    struct slow_desc *d;
    uint8_t *p;

    if (b->nslow == MAX_SLOW)
        codegen_overflow(b);
    if (b->ndesc + sizeof(*d) + 10 * IR_MAX_SLOTS > b->cap_desc) {
        b->cap_desc = 2 * b->cap_desc + 64 * 1024;
        b->desc = realloc(b->desc, b->cap_desc);
    }
    s = &b->slow[b->nslow++];
    *s = (struct slow){ .desc = b->ndesc };
    d = (struct slow_desc *)(b->desc + b->ndesc);
    *d = (struct slow_desc){ .kind = kind, .op = op->op, .type = op->type, .addr = addr, .dst = NOREG, .data = NOREG,
                             .cmp = NOREG, .memo = NOREG, .mem = op->mem, .disp = op->disp, .pc = b->insn_pc };
    p = b->desc + b->ndesc + sizeof(*d);
    if (kind != SLOW_FIX)
        FOR_SLOTS(slot, b->dirty) {
            const struct value *x = &b->val[b->cur[slot]];

            d->dirty++;
            *p++ = slot;
            if (x->reg != NOREG) {
                *p++ = x->reg;
            } else {
                *p++ = LOC_CONST;
                memcpy(p, &x->imm, 8);
                p += 8;
            }
        }
    b->ndesc = p - b->desc;
    s->len = b->ndesc - s->desc;
    s->vec = b->busy & VEC_ALL;
    return s;
}

struct slow_desc *slow_desc_of(struct codegen *b, const struct slow *s)
{
    return (struct slow_desc *)(b->desc + s->desc);
}

/* Registers of the hit path's check. Everything an access needs is allocated before its check is emitted: on the slow
 * path nothing between the check and the end of the access has been executed. */
struct tlb_temps { uint8_t entry, page; };

static struct tlb_temps tlb_temps(struct codegen *b)
{
    struct tlb_temps t = { .entry = temp_reg(b, GPR_ALL) };

    t.page = temp_reg(b, GPR_ALL);
    return t;
}

/* t.entry holds the addend afterwards; t.page is free. Checked are `size` bytes from ra + disp on. */
static void tlb_check(struct codegen *b, const struct ir_op *op, unsigned ra, bool write, struct slow *s,
                      struct tlb_temps t, int32_t disp, unsigned size)
{
    unsigned mmu = memop_mmu(op->mem), t2 = t.entry, t3 = t.page;
    unsigned align = 1u << ((op->mem & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT);
    int32_t view = offsetof(struct cpu, tlb_view) + cpu_tlb_view(mmu) * sizeof(struct tlb_view);
    int32_t last = align < size ? size - align : 0;     /* the page of the last byte must be that of the first */

    if (disp) {
        lea(&b->c, true, t2, mem_at(ra, disp));
        shift_ri(&b->c, SH_SHR, true, t2, CPU_PAGE_BITS - 5);
    } else if (b->host->bmi2) {
        vex_rr(&b->c, M_0F3A | P_F2 | 0xf0 | OP_W, 0, t2, 0, ra);
        put8(&b->c, CPU_PAGE_BITS - 5);
    } else {
        mov_rr(&b->c, true, t2, ra);
        shift_ri(&b->c, SH_SHR, true, t2, CPU_PAGE_BITS - 5);
    }
    alu_rm(&b->c, ALU_AND, true, t2, state_mem(view + offsetof(struct tlb_view, mask)));
    alu_rm(&b->c, ALU_ADD, true, t2, state_mem(view + offsetof(struct tlb_view, table)));
    if ((int64_t)disp + last != (int32_t)((int64_t)disp + last)) {
        lea(&b->c, true, t3, mem_at(ra, disp));
        alu_ri(&b->c, ALU_ADD, true, t3, last);
    } else if (disp + last) {
        lea(&b->c, true, t3, mem_at(ra, disp + last));
    } else {
        mov_rr(&b->c, true, t3, ra);
    }
    alu_ri(&b->c, ALU_AND, true, t3, -CPU_PAGE_SIZE | (int)(align - 1));
    alu_rm(&b->c, ALU_CMP, true, t3,
           mem_at(t2, write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read)));
    s->jump = jcc(&b->c, CC_NE);
    mov_load(&b->c, true, t2, mem_at(t2, offsetof(struct tlb_entry, addend)));
}

void swap_bytes(struct codegen *b, unsigned log2, unsigned r)
{
    if (log2 == MEM_16) {
        op_rr(&b->c, 0xc1 | P_66, SH_ROL, r);
        put8(&b->c, 8);
    } else if (log2 >= MEM_32) {
        put_prefixes(&b->c, M_0F | (0xc8 + (r & 7)) | OP_WIDE(log2 == MEM_64), 0, 0, r, false);
    }
}

void load_int(struct codegen *b, const struct ir_op *op, unsigned rd, struct mem m)
{
    unsigned size = op->mem & MEM_SIZE;
    bool sign = op->mem & MEM_SIGNED, w = op->type == T_I64, be = op->mem & MEM_BE && size != MEM_8;

    if (be && size == MEM_16) {
        op_rm(&b->c, M_0F | 0xb7, rd, m);
        swap_bytes(b, size, rd);
        if (sign)
            op_rr(&b->c, M_0F | 0xbf | OP_WIDE(w), rd, rd);
        return;
    }
    switch (size) {
    case MEM_8: op_rm(&b->c, M_0F | (sign ? 0xbe | OP_WIDE(w) : 0xb6), rd, m); break;
    case MEM_16: op_rm(&b->c, M_0F | (sign ? 0xbf | OP_WIDE(w) : 0xb7), rd, m); break;
    case MEM_32:
        if (sign && w && !be)
            op_rm(&b->c, 0x63 | OP_W, rd, m);
        else
            mov_load(&b->c, false, rd, m);
        break;
    default: mov_load(&b->c, true, rd, m);
    }
    if (be)
        swap_bytes(b, size, rd);
    if (be && size == MEM_32 && sign && w)
        op_rr(&b->c, 0x63 | OP_W, rd, rd);
    if (!sign && size < MEM_64)
        b->val[op->dst].flags |= VAL_ZX;
}

/* ---- one check for several accesses */

static struct tlb_memo *memo_find(struct codegen *b, const struct ir_op *op, bool write)
{
    ir_val base = val_root(b, op->a);

    if (op->mem & MEM_ALIGN_MASK)
        return NULL;
    for (unsigned n = 0; n < MEMOS; n++) {
        struct tlb_memo *m = &b->memo[n];

        if (m->addend && m->base == base && m->mmu == memop_mmu(op->mem) && op->disp >= m->lo &&
            op->disp + (int64_t)memop_bytes(op->mem) <= m->hi && (m->write || !write)) {
            if (b->val[m->addend].reg != NOREG)
                return m;
            m->addend = 0;              /* its register was wanted elsewhere */
        }
    }
    return NULL;
}

/* The check about to be made for op serves those after it too: over which bytes? */
static bool memo_wanted(const struct codegen *b, const struct ir_op *op, int32_t *lo, int32_t *hi)
{
    const struct mem_group *g = &b->group[b->i];
    int32_t end = op->disp + (int32_t)memop_bytes(op->mem);

    *lo = op->disp;
    *hi = end;
    if (!g->last || b->an == NULL)
        return false;
    *lo = op->disp < g->lo ? op->disp : g->lo;
    *hi = end > g->hi ? end : g->hi;
    return true;
}

/* Registers and range of an access, before its slow path is noted. */
struct access { unsigned ra; struct tlb_temps t; struct tlb_memo *memo; bool make; int32_t lo, hi; };

static void access_begin(struct codegen *b, const struct ir_op *op, bool write, struct access *x)
{
    x->memo = memo_find(b, op, write);
    x->make = !x->memo && memo_wanted(b, op, &x->lo, &x->hi);
    if (x->memo) {
        x->t.entry = b->val[x->memo->addend].reg;
        b->locked |= 1u << x->t.entry;
    } else {
        x->t = tlb_temps(b);
    }
}

static void access_check(struct codegen *b, const struct ir_op *op, bool write, struct slow *s, struct access *x)
{
    struct slow_desc *d = slow_desc_of(b, s);
    struct tlb_memo *m;

    if (x->memo) {
        test_rr(&b->c, true, x->t.entry, x->t.entry);
        s->jump = jcc(&b->c, CC_E);
        return;
    }
    if (!x->make) {
        tlb_check(b, op, x->ra, write, s, x->t, op->disp, memop_bytes(op->mem));
        return;
    }
    d->memo = x->t.entry;
    d->lo = x->lo;
    d->hi = x->hi;
    tlb_check(b, op, x->ra, write, s, x->t, x->lo, x->hi - x->lo);
    m = &b->memo[b->memo_next++ % MEMOS];
    if (m->addend && b->val[m->addend].reg != NOREG)
        value_drop(b, m->addend);
    *m = (struct tlb_memo){ .base = val_root(b, op->a), .addend = value_new(b, T_I64), .lo = x->lo, .hi = x->hi,
                            .mmu = memop_mmu(op->mem), .write = write };
    value_place(b, m->addend, x->t.entry);
    b->val[m->addend].flags = VAL_MEMO;
    b->val[m->addend].last = b->group[b->i].last;
}

void lower_load(struct codegen *b, const struct ir_op *op)
{
    bool vec = type_is_vec(op->type), write = op->mem & MEM_RW;
    struct access x = { 0 };
    unsigned tv, rd;
    struct slow *s;
    struct mem m;

    if (b->memory != MEMORY_TLB) {
        lower_load_direct(b, op);
        return;
    }
    x.ra = use_reg(b, op->a);
    access_begin(b, op, write, &x);
    tv = vec ? temp_reg(b, VEC_ALL) : x.memo ? temp_reg(b, GPR_ALL) : x.make ? x.t.page : x.t.entry;
    s = slow_new(b, op, SLOW_LOAD, x.ra);
    m = mem_sib(x.ra, x.t.entry, 0, op->disp);
    access_check(b, op, write, s, &x);
    rd = def_home_or(b, tv);
    if (vec) {
        b->used_ymm |= op->type == T_V256;
        s->vec = true;
        vec_load(b, memop_bytes(op->mem), rd, m);
    } else {
        load_int(b, op, rd, m);
    }
    slow_desc_of(b, s)->dst = rd;
    s->resume = b->c.p;
}

void store_imm(struct codegen *b, unsigned size, struct mem m, uint32_t imm)
{
    switch (size) {
    case MEM_8: op_rm(&b->c, 0xc6, 0, m); put8(&b->c, imm); break;
    case MEM_16:
        op_rm(&b->c, 0xc7 | P_66, 0, m);
        put8(&b->c, imm);
        put8(&b->c, imm >> 8);
        break;
    default: op_rm(&b->c, 0xc7 | OP_WIDE(size == MEM_64), 0, m); put32(&b->c, imm);
    }
}

void store_reg(struct codegen *b, unsigned size, struct mem m, unsigned r)
{
    switch (size) {
    case MEM_8: op_rm(&b->c, 0x88 | OP_REG8, r, m); break;
    case MEM_16: op_rm(&b->c, 0x89 | P_66, r, m); break;
    default: mov_store(&b->c, size == MEM_64, m, r);
    }
}

void lower_store(struct codegen *b, const struct ir_op *op)
{
    unsigned size = op->mem & MEM_SIZE, rv = NOREG, swapped = NOREG;
    bool be = op->mem & MEM_BE && size != MEM_8;
    struct access x = { 0 };
    int32_t imm = 0;
    struct slow *s;
    struct slow_desc *d;
    struct mem m;

    if (b->memory != MEMORY_TLB) {
        lower_store_direct(b, op);
        return;
    }
    x.ra = use_reg(b, op->a);
    if (be || !val_imm32(b, op->b, size == MEM_64, &imm))
        rv = use_reg(b, op->b);
    access_begin(b, op, true, &x);
    if (be)
        swapped = x.memo ? temp_reg(b, GPR_ALL) : x.t.page;
    s = slow_new(b, op, SLOW_STORE, x.ra);
    d = slow_desc_of(b, s);
    d->data = rv;
    d->imm = (int64_t)imm;
    if (rv != NOREG && rv >= XMM0)
        s->vec = true;
    access_check(b, op, true, s, &x);
    m = mem_sib(x.ra, x.t.entry, 0, op->disp);
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

static uint32_t sized(unsigned size, uint32_t byte_op, uint32_t op)
{
    return size == MEM_8 ? byte_op | OP_REG8 : op | (size == MEM_16 ? P_66 : 0) | OP_WIDE(size == MEM_64);
}

static void lock_prefix(struct codegen *b) { put8(&b->c, 0xf0); }

static void zero_extend_result(struct codegen *b, unsigned size, unsigned r)
{
    if (size == MEM_8)
        op_rr(&b->c, M_0F | 0xb6 | OP_RM8, r, r);
    else if (size == MEM_16)
        op_rr(&b->c, M_0F | 0xb7, r, r);
    else if (size == MEM_32)
        mov_rr(&b->c, false, r, r);
}

/* and, or, xor that give the old value: a compare-and-swap loop on rax */
static void atomic_loop(struct codegen *b, unsigned size, enum alu_op alu, struct mem m, unsigned rv,
                        unsigned t)
{
    uint8_t *again;

    if (size == MEM_8)
        op_rm(&b->c, M_0F | 0xb6, RAX, m);
    else
        op_rm(&b->c, sized(size, 0, 0x8b), RAX, m);
    again = b->c.p;
    mov_rr(&b->c, true, t, RAX);
    alu_rr(&b->c, alu, true, t, rv);
    lock_prefix(b);
    op_rm(&b->c, sized(size, M_0F | 0xb0, M_0F | 0xb1), t, m);
    jcc_to(&b->c, CC_NE, again);
}

static enum alu_op atomic_alu(unsigned op)
{
    return op == IR_ATOMIC_ADD ? ALU_ADD : op == IR_ATOMIC_AND ? ALU_AND : op == IR_ATOMIC_OR ? ALU_OR : ALU_XOR;
}

void lower_atomic(struct codegen *b, const struct ir_op *op)
{
    unsigned size = op->mem & MEM_SIZE, ra, rv, rc = NOREG, rd;
    struct tlb_temps t;
    bool wanted = op->dst && b->val[op->dst].last, in_rax = op->op == IR_ATOMIC_CAS;
    bool loop = wanted && (op->op == IR_ATOMIC_AND || op->op == IR_ATOMIC_OR || op->op == IR_ATOMIC_XOR);
    struct slow *s;
    struct slow_desc *d;
    struct mem m;

    if (in_rax)
        use_in(b, op->b, RAX);          /* what is expected */
    else if (loop)
        take_reg(b, RAX);
    ra = use_reg(b, op->a);
    rv = use_reg(b, in_rax ? op->c : op->b);
    if (in_rax)
        rc = RAX;
    t = tlb_temps(b);
    s = slow_new(b, op, SLOW_ATOMIC, ra);
    d = slow_desc_of(b, s);
    d->data = rv;
    d->cmp = rc;
    if (op->mem & MEM_BE && size != MEM_8) {    /* the host has no such atomics: always by the slow path */
        s->jump = jmp(&b->c);
        if (wanted || in_rax) {
            def_in(b, rd = in_rax ? RAX : t.page);
            slow_desc_of(b, s)->dst = rd;
        }
        s->resume = b->c.p;
        return;
    }
    if (b->memory == MEMORY_TLB) {
        tlb_check(b, op, ra, true, s, t, op->disp, memop_bytes(op->mem));
        m = mem_sib(ra, t.entry, 0, op->disp);
    } else {
        direct_check(b, op, ra, s, t.entry);
        m = direct_mem(b, op, ra);
    }
    if (in_rax) {
        lock_prefix(b);
        op_rm(&b->c, sized(size, M_0F | 0xb0, M_0F | 0xb1), rv, m);
        def_in(b, rd = RAX);
    } else if (loop) {
        atomic_loop(b, size, atomic_alu(op->op), m, rv, t.page);
        def_in(b, rd = RAX);
    } else if (op->op == IR_ATOMIC_XCHG || (wanted && op->op == IR_ATOMIC_ADD)) {
        rd = t.page;
        mov_rr(&b->c, true, rd, rv);
        if (op->op == IR_ATOMIC_ADD)
            lock_prefix(b);
        op_rm(&b->c, op->op == IR_ATOMIC_ADD ? sized(size, M_0F | 0xc0, M_0F | 0xc1) : sized(size, 0x86, 0x87), rd, m);
        def_in(b, rd);
    } else {
        lock_prefix(b);
        op_rm(&b->c, sized(size, atomic_alu(op->op) << 3, atomic_alu(op->op) << 3 | 1), rv, m);
        s->resume = b->c.p;
        return;
    }
    zero_extend_result(b, size, rd);
    if (size < MEM_64)
        b->val[op->dst].flags |= VAL_ZX;
    slow_desc_of(b, s)->dst = rd;
    s->resume = b->c.p;
}

/* Behind the code: call the common stub, jump back, descriptor. */
static void emit_slow_call(struct codegen *b, const struct slow *s)
{
    jump_bind(s->jump, b->c.p);
    put8(&b->c, 0xe8);
    put32(&b->c, (s->vec ? b->stubs->slow_vec : b->stubs->slow_int) - (b->c.p + 4 + b->rx_delta));
    reloc_add(b, RELOC_STUB, 4);
    jump_bind(jmp(&b->c), s->resume);
}

void emit_slow(struct codegen *b)
{
    const uint8_t *code = b->out->rw;
    uint8_t *rows;

    for (unsigned i = 0; i < b->nslow; i++) {
        struct slow *s = &b->slow[i];

        if (b->limit - b->c.p < 64 + (ptrdiff_t)s->len)
            codegen_overflow(b);
        if (s->jump)
            emit_slow_call(b, s);
        memcpy(b->c.p, b->desc + s->desc, s->len);
        s->desc = b->c.p - code;
        b->c.p += s->len;
    }
    b->out->nfaults = 0;
    if (b->memory == MEMORY_TLB)
        return;
    if (b->limit - b->c.p < 64 + b->nslow * (ptrdiff_t)sizeof(struct fault_row))
        codegen_overflow(b);
    rows = b->c.p += -(uintptr_t)b->c.p & 3;
    b->out->faults = rows - code;
    for (unsigned i = 0; i < b->nslow; i++) {
        struct fault_row row = { b->slow[i].at - code, b->slow[i].desc };

        if (!b->slow[i].at)
            continue;
        memcpy(b->c.p, &row, sizeof(row));
        b->c.p += sizeof(row);
        b->out->nfaults++;
    }
}

const uint8_t *image_loc(const struct reg_image *im, unsigned r)
{
    return r >= XMM0 ? im->vec[r - XMM0] : (const uint8_t *)&im->gpr[r];
}

static void write_back(struct cpu *cpu, const struct reg_image *im, const uint8_t *p, unsigned n)
{
    while (n--) {
        const struct ir_slot *s = &cpu->guest->slots[*p++];
        unsigned loc = *p++;

        if (loc == LOC_CONST) {
            memcpy((uint8_t *)cpu + s->offset, p, ir_slot_bytes(s));
            p += 8;
        } else {
            memcpy((uint8_t *)cpu + s->offset, image_loc(im, loc), ir_slot_bytes(s));
        }
    }
}

void slow_write_back(struct cpu *cpu, const struct reg_image *im, const struct slow_desc *d)
{
    write_back(cpu, im, (const uint8_t *)(d + 1), d->dirty);
    cpu->pc = cpu->pc_page + (int64_t)d->pc;
}

static void slow_load(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d, uint64_t va)
{
    unsigned size = d->mem & MEM_SIZE;
    uint64_t v;

    if (type_is_vec(d->type)) {
        uint8_t buf[32] = { 0 };

        if (size <= MEM_64) {
            v = cpu_load(cpu, va, d->mem);
            memcpy(buf, &v, 8);
        } else {
            cpu_load_bytes(cpu, va, buf, 1u << size, memop_mmu(d->mem));
        }
        memcpy(im->vec[d->dst - XMM0], buf, 32);
        return;
    }
    v = cpu_load(cpu, va, d->mem);
    if (d->mem & MEM_SIGNED && size < MEM_64)
        v = (int64_t)(v << (64 - (8 << size))) >> (64 - (8 << size));
    im->gpr[d->dst] = d->type == T_I32 ? (uint32_t)v : v;
}

static void slow_store(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d, uint64_t va)
{
    unsigned size = d->mem & MEM_SIZE;
    uint64_t v = d->imm;

    if (size >= MEM_128) {
        cpu_store_bytes(cpu, va, im->vec[d->data - XMM0], 1u << size, memop_mmu(d->mem));
        return;
    }
    if (d->data != NOREG)
        memcpy(&v, image_loc(im, d->data), 8);
    if (size < MEM_64)
        v &= (1ull << (8 << size)) - 1;
    cpu_store(cpu, va, d->mem, v);
}

static const struct tlb_entry *entry_hit(const struct cpu *cpu, uint64_t va, unsigned mmu, bool write)
{
    const struct tlb_view *view = &cpu->tlb_view[cpu_tlb_view(mmu)];
    const struct tlb_entry *e =
        (const struct tlb_entry *)((const uint8_t *)view->table + (va >> (CPU_PAGE_BITS - 5) & view->mask));
    uint64_t page = va & ~(uint64_t)(CPU_PAGE_SIZE - 1);

    return (write ? e->write : e->read) == page ? e : NULL;
}

/* What the later accesses that share the check add to reach the host's memory; 0: they too have to come here. Two pages
 * do if the host has them side by side. */
static uint64_t addend_of(const struct cpu *cpu, uint64_t va, unsigned n, unsigned mmu, bool write)
{
    const struct tlb_entry *first = entry_hit(cpu, va, mmu, write), *last = entry_hit(cpu, va + n - 1, mmu, write);

    return first && last && first->addend == last->addend ? first->addend : 0;
}

/* In one piece, as the host's own instruction: up to 8 bytes are single-copy atomic. Guest addresses may be odd ones, and so
 * are those of immediates in the code. */
typedef uint16_t __attribute__((aligned(1), may_alias)) any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) any64;

static void copy_whole(void *to, const void *from, unsigned n)
{
    switch (n) {
    case 1: *(volatile uint8_t *)to = *(const volatile uint8_t *)from; break;
    case 2: *(volatile any16 *)to = *(const volatile any16 *)from; break;
    case 4: *(volatile any32 *)to = *(const volatile any32 *)from; break;
    case 8: *(volatile any64 *)to = *(const volatile any64 *)from; break;
    default: memcpy(to, from, n);
    }
}

/* An access that is here only because the others of its check lie in two pages: the fast path, in C. */
static bool access_hit(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d, uint64_t va)
{
    unsigned size = d->mem & MEM_SIZE, n = 1u << size;
    bool write = d->kind == SLOW_STORE;
    const struct tlb_entry *e;
    uint8_t buf[32] = { 0 };
    uint64_t v;

    if (d->kind == SLOW_ATOMIC || d->mem & (MEM_BE | MEM_ALIGN_MASK | MEM_RW) || (va & (CPU_PAGE_SIZE - 1)) + n > CPU_PAGE_SIZE ||
        !(e = entry_hit(cpu, va, memop_mmu(d->mem), write)))
        return false;
    if (write) {
        const void *from = d->data != NOREG ? image_loc(im, d->data) : (const uint8_t *)&d->imm;

        copy_whole((void *)(uintptr_t)(va + e->addend), from, n);
        return true;
    }
    copy_whole(buf, (const void *)(uintptr_t)(va + e->addend), n);
    if (type_is_vec(d->type)) {
        memcpy(im->vec[d->dst - XMM0], buf, 32);
        return true;
    }
    memcpy(&v, buf, 8);
    if (d->mem & MEM_SIGNED && size < MEM_64)
        v = (uint64_t)((int64_t)(v << (64 - 8 * n)) >> (64 - 8 * n));
    im->gpr[d->dst] = d->type == T_I32 ? (uint32_t)v : v;
    return true;
}

uint64_t slow_address(const struct slow_desc *d, const struct reg_image *im)
{
    uint64_t va = im->gpr[d->addr] + (int64_t)d->disp;

    return d->mem & MEM_WRAP_32 ? (uint32_t)va : va;
}

static void slow_call(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d, uint64_t va)
{
    uint32_t (*fn)(struct cpu *, uint32_t, uint32_t, uint64_t) = cpu->guest->helpers[d->lo]->fn, result;

    slow_write_back(cpu, im, d);
    result = fn(cpu, (uint32_t)d->imm, d->data == NOREG ? 0 : (uint32_t)im->gpr[d->data], va);
    if (d->dst != NOREG)
        im->gpr[d->dst] = result;
}

void codegen_slow_path(struct cpu *cpu, struct reg_image *im, const uint8_t *ret)
{
    const struct slow_desc *d = (const struct slow_desc *)(ret + 5);
    uint64_t va = d->addr == NOREG ? 0 : slow_address(d, im), v, base;

    if (d->kind == SLOW_FIX) {
        codegen_fix(cpu, im, d);
        return;
    }
    if (d->kind == SLOW_CALL) {
        slow_call(cpu, im, d, va);
        return;
    }
    base = im->gpr[d->addr];
    if (access_hit(cpu, im, d, va))
        goto memo;
    slow_write_back(cpu, im, d);
    if (va & ((1u << ((d->mem & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT)) - 1))
        cpu->guest->unaligned(cpu, va, d->kind == SLOW_LOAD ? ACCESS_READ : ACCESS_WRITE);
    switch (d->kind) {
    case SLOW_LOAD: slow_load(cpu, im, d, va); break;
    case SLOW_STORE: slow_store(cpu, im, d, va); break;
    default:
        v = cpu_atomic(cpu, d->op, va, d->mem, im->gpr[d->data], d->cmp == NOREG ? 0 : im->gpr[d->cmp]);
        if (d->dst != NOREG)
            im->gpr[d->dst] = v;
    }
memo:
    if (d->memo != NOREG)
        im->gpr[d->memo] = addend_of(cpu, base + (int64_t)d->lo, d->hi - d->lo, memop_mmu(d->mem),
                                     d->kind == SLOW_STORE || d->mem & MEM_RW);
}
