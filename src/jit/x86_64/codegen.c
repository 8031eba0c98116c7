/* The x86-64 back end: one region's IR to host code, and the stubs that all regions use. */
#include <capstone/capstone.h>
#include <glib.h>
#include <stddef.h>
#include <stdlib.h>
#include "codegen.h"

/* The registers of guest.kept: those that calls of C leave alone. */
static const uint8_t keepers[] = { RBX, R12, R13, R14, R15 };
_Static_assert(sizeof(keepers) == GUEST_KEPT, "one each");

/* A machine without CPUs has no guest. */
static unsigned nkept(const struct guest *guest) { return guest ? guest->nkept : 0; }

struct codegen *codegen_new(enum codegen_memory memory, const struct guest *guest)
{
    struct codegen *b = g_new0(struct codegen, 1);

    memset(b->guest_kept.reg, NOREG, sizeof(b->guest_kept.reg));
    for (unsigned n = 0; n < nkept(guest); n++) {
        b->guest_kept.reg[guest->kept[n]] = keepers[n];
        b->guest_kept.slot[keepers[n]] = guest->kept[n];
        b->guest_kept.regs |= 1u << keepers[n];
    }
    b->memory = memory;
    b->snap = g_new(struct snapshot, MAX_SNAPSHOTS);
    b->host = host_features();
    return b;
}

void codegen_free(struct codegen *b)
{
    if (!b)
        return;
    g_free(b->snap);
    g_free(b->group);
    g_free(b->group_of);
    g_free(b->group_block);
    free(b->val);
    free(b->desc);
    g_free(b);
}

/* Entered from C or by a link. Interrupts are looked for here, before anything is in registers. */
static void emit_entry(struct codegen *b)
{
    alu_mi(&b->c, ALU_CMP, false, STATE(exit_request), 0);
    cold_new(b, jcc(&b->c, CC_NE))->pc = b->ir->pc - b->ir->page;
}

/* What other regions leave and expect. */
static void outside_set(struct codegen *b)
{
    const struct codegen_stubs *s = b->stubs;
    const bool kept = b->guest_kept.regs && !(b->ir->mode & b->ir->guest->unkept_modes);

    b->kept = b->guest_kept;
    if (!kept) {
        b->kept.regs = 0;
        memset(b->kept.reg, NOREG, sizeof(b->kept.reg));
    }
    b->leave = kept ? s->leave : s->stored_leave;
    b->loop = kept ? s->loop : s->stored_loop;
    b->lookup = kept ? s->lookup : s->stored_lookup;
    b->outside = (struct label){ .at = &b->kept, .fixed = true, .valid = b->kept.regs, .dirty = b->kept.regs };
    memset(b->outside.live, 0xff, sizeof(b->outside.live));
}

bool codegen_compile(struct codegen *b, const struct codegen_stubs *stubs, const struct ir *ir,
                     const struct ir_analysis *an, struct code_out *out)
{
    if (sigsetjmp(b->overflow, 0))
        return false;
    for (unsigned v = 0; !b->host->avx && v < ir->nvals; v++)
        if (v >= T_COUNT && ir->val_type[v] == T_V256)
            return false;               /* there are no such registers */
    b->c.p = out->rw;
    b->limit = out->limit;
    b->rx_delta = out->rx_delta;
    b->out = out;
    b->stubs = stubs;
    if (out->relocs)
        out->relocs->n = out->relocs->fixed = 0;
    b->ir = ir;
    b->an = an;
    b->slots = ir->guest->slots;
    b->nsnap = b->ncold = b->nslow = b->nfixup = b->ndesc = b->skip_to = 0;
    b->used_ymm = false;
    memset(b->memo, 0, sizeof(b->memo));
    memset(b->regs, 0, sizeof(b->regs));
    memset(b->cur, 0, sizeof(b->cur));
    memset(b->memval, 0, sizeof(b->memval));
    memset(b->dirty, 0, sizeof(b->dirty));
    memset(b->known, 0, sizeof(b->known));
    b->busy = 0;
    b->locked = b->temps = 0;
    b->spills_int = b->spills_vec = 0;
    if (b->limit - b->c.p < 4096)
        return false;
    memset(out->patch, 0, ir->nexits * sizeof(out->patch[0]));
    outside_set(b);
    codegen_analyse(b);
    b->i = 0;
    bind_canonical(b, &b->outside);
    emit_entry(b);
    lower_range(b, 0, ir->nops);
    emit_cold(b);
    emit_slow(b);
    out->size = b->c.p - out->rw;
    return true;
}

void codegen_patch_jump(uint8_t *patch, const uint8_t *target)
{
    int32_t rel = target ? target - (patch + 4) : 0;

    __atomic_store_n((int32_t *)patch, rel, __ATOMIC_RELEASE);
}

/* ---- stubs */

static const uint8_t callee_saved[] = { RBP, RBX, R12, R13, R14, R15 };

static void push(struct code_buf *c, unsigned r) { put_prefixes(c, 0x50 + (r & 7), 0, 0, r, false); }
static void pop(struct code_buf *c, unsigned r) { put_prefixes(c, 0x58 + (r & 7), 0, 0, r, false); }

enum { FRAME_HOST_MXCSR = FRAME_SIZE - 16, FRAME_PUSHED = FRAME_SIZE + 8 };    /* + 8: rsp is a multiple of 16 */
_Static_assert(FRAME_SIZE % 16 == 0 && FRAME_IMAGE + sizeof(struct reg_image) <= FRAME_HOST_MXCSR, "frame");

static struct mem kept_mem(const struct guest *guest, unsigned n) { return state_mem(guest->slots[guest->kept[n]].offset); }

static bool kept_wide(const struct guest *guest, unsigned n) { return guest->slots[guest->kept[n]].type == T_I64; }

/* uint64_t enter(struct cpu *cpu, const void *code) */
static void make_enter(struct code_buf *c, const struct guest *guest)
{
    for (unsigned i = 0; i < sizeof(callee_saved); i++)
        push(c, callee_saved[i]);
    alu_ri(c, ALU_SUB, true, RSP, FRAME_PUSHED);
    lea(c, true, RBP, mem_at(RDI, CPU_MIDDLE));
    op_rm(c, M_0F | 0xae, 3, mem_at(RSP, FRAME_HOST_MXCSR));
    op_rm(c, M_0F | 0xae, 2, STATE(fp_control));
    for (unsigned n = 0; n < nkept(guest); n++)
        mov_load(c, kept_wide(guest, n), keepers[n], kept_mem(guest, n));
    op_rr(c, 0xff, 4, RSI);
}

static void make_leave(struct code_buf *c, bool avx)
{
    if (avx) {                          /* vzeroupper */
        put8(c, 0xc5);
        put8(c, 0xf8);
        put8(c, 0x77);
    }
    op_rm(c, M_0F | 0xae, 3, STATE(fp_control));
    op_rm(c, M_0F | 0xae, 2, mem_at(RSP, FRAME_HOST_MXCSR));
    alu_ri(c, ALU_ADD, true, RSP, FRAME_PUSHED);
    for (unsigned i = sizeof(callee_saved); i-- > 0;)
        pop(c, callee_saved[i]);
    put8(c, 0xc3);
}

static struct mem image_gpr(unsigned r)
{
    return mem_at(RSP, 8 + FRAME_IMAGE + offsetof(struct reg_image, gpr) + 8 * r);
}
static struct mem image_vec(unsigned r)
{
    return mem_at(RSP, 8 + FRAME_IMAGE + offsetof(struct reg_image, vec) + 32 * r);
}

static void move_vecs(struct code_buf *c, bool avx, uint32_t opcode)
{
    for (unsigned r = 0; r < 16; r++) {
        if (avx)
            vex_rm(c, M_0F | P_F3 | opcode, 1, r, 0, image_vec(r));
        else
            op_rm(c, M_0F | P_F3 | opcode, r, image_vec(r));
    }
}

/* Called by slow paths: all registers into an image, codegen_slow_path(cpu, image, return address), all back. */
static void make_slow(struct code_buf *c, bool vec, bool avx)
{
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP && r != RBP)
            mov_store(c, true, image_gpr(r), r);
    if (vec)
        move_vecs(c, avx, 0x7f);
    if (vec && avx) {
        put8(c, 0xc5);
        put8(c, 0xf8);
        put8(c, 0x77);
    }
    lea_cpu(c, RDI);
    lea(c, true, RSI, mem_at(RSP, 8 + FRAME_IMAGE));
    mov_load(c, true, RDX, mem_at(RSP, 0));
    alu_ri(c, ALU_SUB, true, RSP, 8);
    mov_imm(c, RAX, (uintptr_t)codegen_slow_path);
    op_rr(c, 0xff, 2, RAX);
    alu_ri(c, ALU_ADD, true, RSP, 8);
    if (vec)
        move_vecs(c, avx, 0x6f);
    for (unsigned r = 0; r < 16; r++)
        if (r != RSP && r != RBP)
            mov_load(c, true, r, image_gpr(r));
    put8(c, 0xc3);
}

/* To why it leaves in rax. */
static void make_leaving(struct code_buf *c, ptrdiff_t rx_delta, const uint8_t **lookup, const uint8_t **loop, const uint8_t **leave)
{
    uint8_t *over;

    *lookup = c->p + rx_delta;
    mov_store(c, true, STATE(pc), RAX);
    mov_imm(c, RAX, 1);                 /* JIT_LEFT_LOOKUP */
    over = jmp(c);
    *loop = c->p + rx_delta;
    mov_store(c, true, STATE(pc), RAX);
    mov_imm(c, RAX, 0);                 /* JIT_LEFT_LOOP */
    jump_bind(over, c->p);
    *leave = c->p + rx_delta;
}

void codegen_make_stubs(const struct guest *guest, struct code_out *out, struct codegen_stubs *stubs)
{
    struct code_buf c = { out->rw };
    const struct host_features *host = host_features();
    uint8_t *stored;

    stubs->enter = (uint64_t (*)(struct cpu *, const void *))(c.p + out->rx_delta);
    make_enter(&c, guest);
    make_leaving(&c, out->rx_delta, &stubs->lookup, &stubs->loop, &stubs->leave);
    for (unsigned n = 0; n < nkept(guest); n++)
        mov_store(&c, kept_wide(guest, n), kept_mem(guest, n), keepers[n]);
    stored = jmp(&c);
    make_leaving(&c, out->rx_delta, &stubs->stored_lookup, &stubs->stored_loop, &stubs->stored_leave);
    jump_bind(stored, c.p);
    make_leave(&c, host->avx);
    stubs->slow_int = c.p + out->rx_delta;
    make_slow(&c, false, host->avx);
    stubs->slow_vec = c.p + out->rx_delta;
    make_slow(&c, true, host->avx);
    out->size = c.p - out->rw;
}

char *codegen_disassemble(const uint8_t *code, size_t n, uint64_t address)
{
    GString *s = g_string_new(NULL);
    cs_insn *insn;
    csh handle;

    if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
        return g_string_free(s, false);
    cs_option(handle, CS_OPT_SKIPDATA, CS_OPT_ON);
    insn = cs_malloc(handle);
    while (cs_disasm_iter(handle, &code, &n, &address, insn))
        g_string_append_printf(s, "    %#" PRIx64 ":  %s %s\n", insn->address, insn->mnemonic, insn->op_str);
    cs_free(insn, 1);
    cs_close(&handle);
    return g_string_free(s, false);
}
