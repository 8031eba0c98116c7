/* Rows of isa/arm.isa, A32 and T32, against QEMU's user mode. usage: test-a32 a32|t32; see oracle/rows.h for what steers it. */
#include <signal.h>
#include <string.h>
#include "../oracle/rows.h"
#include "guest/arm/a32.h"
#include "guest/arm/system.h"

enum { PSR_T = 1 << 5, PSR_Q = 1 << 27, PSR_SHOWN = 0xf80f0000 | 0x0600fc00 | PSR_T };
enum { FPSCR_FLAGS = 0xf800009f, FPSCR_MODES = 0x07c80000 };    /* AHP, DN, FZ, RMode, FZ16 */
static struct rows_arch arch;
static bool thumb;

/* ---- state */

static uint32_t it_of(uint32_t psr) { return (psr >> 25 & 3) | (psr >> 8 & 0xfc); }

static void load(struct cpu *cpu, const struct case_state *s)
{
    struct arm_cpu *c = arm(cpu);

    for (unsigned n = 0; n < 15; n++)
        c->x[n] = (uint32_t)s->r[n];
    memcpy(c->q, s->v, 16 * 16);
    arm_pstate_set_nzcv(c, s->flags & 0xf0000000);
    c->q32 = s->flags & PSR_Q;
    c->ge = arm_ge_bytes(s->flags >> 16);
    c->it = it_of(s->flags);
    c->thumb = s->flags & PSR_T;
    c->aarch32 = true;
    c->mode32 = 0x10;
    c->e32 = c->j32 = false;
    cpu->fp_control &= ~0x3fu;
    c->fp_status.flags = 0;
    arm_set_fpcr(c, s->fpcr & FPSCR_MODES);
    arm_set_fpsr(c, s->fpcr & FPSCR_FLAGS);
    c->ex_bytes = 0;
}

static void store(struct cpu *cpu, struct case_state *s)
{
    struct arm_cpu *c = arm(cpu);

    for (unsigned n = 0; n < 15; n++)
        s->r[n] = (uint32_t)c->x[n];
    memcpy(s->v, c->q, 16 * 16);
    s->flags = arm_pstate_nzcv(c) | (c->q32 ? PSR_Q : 0) | arm_ge_flags(c->ge) << 16 | (c->it & 3) << 25 | (c->it & 0xfc) << 8 |
               (c->thumb ? PSR_T : 0);
    s->fpcr = (c->fpcr & ~(uint32_t)FPSCR_FLAGS) | (arm_fpsr(c) & FPSCR_FLAGS);
}

static int signal_of(struct cpu *cpu, uint64_t *address)
{
    enum { EC_DATA = 0x24, DFSC_ALIGNMENT = 0x21 };
    struct arm_cpu *c = arm(cpu);

    *address = cpu->pc;
    switch (cpu->exception) {
    case ARM_EXC_UNDEF: return SIGILL;
    case ARM_EXC_DATA: *address = c->exc_far; return SIGSEGV;
    case ARM_EXC_SYNC: break;
    default: return 1000 + cpu->exception;
    }
    switch (c->exc_syndrome >> 26) {
    case EC_UNKNOWN: return SIGILL;
    case EC_BKPT32: return 0;
    case EC_PC_ALIGN: return SIGBUS;
    case EC_DATA:
        *address = c->exc_far;
        return (c->exc_syndrome & 63) == DFSC_ALIGNMENT ? SIGBUS : SIGSEGV;
    default: return (int)(2000 + (c->exc_syndrome >> 26));
    }
}

static void fault(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    cpu->exception = ARM_EXC_DATA;
    arm(cpu)->exc_far = (uint32_t)va;
}

/* ---- what the generator leaves out, and why */

static const struct left_out left_out[] = {
    { "svc", "the kernel's" }, { "hvc", "" }, { "smc", "" }, { "wfi", "waits" }, { "wfe", "waits" }, { "mrc", "system registers" },
    { "mcr", "" }, { "mrrc", "" }, { "mcrr", "" }, { "cdp", "" }, { "ldc", "" }, { "stc", "" }, { "setend", "the oracle's signals follow it" },
    { "mrs", "bits of CPSR that the kernel chooses" }, { "dbg", "debugger's" },
    { "bxj", "Jazelle" }, { "hlt", "semihosting" },
};

static bool is_memory(const struct any_row *row)
{
    return strchr(row->operands, '[') || strstr(row->operands, "list") || row->flags & A32_ROW_LIT;
}

static bool is_simd(const struct any_row *row) { return row->mnemonic[0] == 'v' || strstr(row->mnemonic, "aes") || !strncmp(row->mnemonic, "sha", 3); }

static const char *group(const struct any_row *row, const char **why)
{
    *why = row->flags & A32_ROW_NOTEST ? "the row says why" : row->flags & A32_ROW_PRIV ? "privileged" :
           left_out_why(left_out, G_N_ELEMENTS(left_out), row->mnemonic);
    if (*why)
        return NULL;
    return is_simd(row) ? "simd" : "integer";
}

static const char *only_raises(const struct any_row *row)
{
    return !thumb && !strcmp(row->mnemonic, "blx") && !strstr(row->pattern, "rm") ? "goes to T32, where A32's traps are other instructions" : NULL;
}

/* ---- encodings */

static uint64_t field(const struct pattern *p, uint32_t raw, const char *name)
{
    const struct pattern_field *f = pattern_find(p, name);
    uint64_t v = 0;

    for (unsigned n = 0; f && n < f->bits; n++)
        v |= (uint64_t)(raw >> f->raw[n] & 1) << f->bit[n];
    return v;
}

static bool has_field(const struct pattern *p, const char *name) { return pattern_find(p, name); }

/* T32 has floating point and Advanced SIMD in encodings that follow from those of A32 (F3.1.10, F4.1.22): the rows stand behind
 * T32's own, and are handled as A32 until they are put into the code. */
static bool of_a32(const struct any_row *row) { return thumb && row - arch.rows >= (ptrdiff_t)t32_row_count; }

static uint32_t t32_of(uint32_t raw)
{
    switch (raw >> 24) {
    case 0xf2: return 0xef000000 | (raw & 0x00ffffff);
    case 0xf3: return 0xff000000 | (raw & 0x00ffffff);
    case 0xf4: return 0xf9000000 | (raw & 0x00ffffff);
    default: return raw;
    }
}

/* The rows' table: T32's with A32's behind. */
static const struct any_row *rows_of_t32(unsigned *count)
{
    struct any_row *all = g_malloc0_n(t32_row_count + a32_row_count, sizeof(*all));

    memcpy(all, t32_rows, t32_row_count * sizeof(*all));
    *count = t32_row_count;
    for (unsigned n = 0; n < a32_row_count; n++) {
        const struct any_row *row = (const struct any_row *)&a32_rows[n];
        unsigned top = row->value >> 24;

        if (top == 0xf2 || top == 0xf3 || (top == 0xf4 && !(row->value & 1 << 20)) || (row->value & row->mask & 0x0c000000) == 0x0c000000)
            all[(*count)++] = *row;
    }
    return all;
}

static struct a32_insn *decode(uint32_t raw, const struct any_row *like)
{
    static struct a32_insn i;
    unsigned width = like->width;

    memset(&i, 0, sizeof(i));
    i.raw = raw;
    i.len = (uint8_t)(width / 8);
    i.row = thumb && !of_a32(like) ? t32_row_find(raw, width, NULL, &i) : a32_row_find(raw, width, NULL, &i);
    return &i;
}

/* Relative to the pc: loads from the case's own code. Stores into code are not for these tests. */
static uint32_t literal(const struct any_row *row, const struct pattern *p, uint32_t raw, bool *ok)
{
    *ok = !strncmp(row->mnemonic, "ld", 2) || !strncmp(row->mnemonic, "vld", 3) || !strncmp(row->mnemonic, "pl", 2);
    if (has_field(p, "rm"))
        *ok = false;
    raw = pattern_put(p, "u", raw, 1);
    raw = pattern_put(p, "imm12", raw, roll(7) * 4 + (roll(3) ? 0 : roll(4)));
    return pattern_put(p, "imm8", raw, roll(6));
}

static bool is_row(uint32_t raw, const struct any_row *row)
{
    const struct a32_row *found = decode(raw, row)->row;

    return found && found->pattern == row->pattern && found->mnemonic == row->mnemonic;
}

/* What DDI 0487 K1.1 leaves to the processor. */
static bool unpredictable(const struct any_row *row, const struct pattern *p, uint32_t raw)
{
    unsigned rn = (unsigned)field(p, raw, "rn"), rt = (unsigned)field(p, raw, "rt"), rm = (unsigned)field(p, raw, "rm");
    bool writeback = (has_field(p, "w") && field(p, raw, "w")) || (has_field(p, "p") && !field(p, raw, "p"));

    if ((!strcmp(row->mnemonic, "vtrn") || !strcmp(row->mnemonic, "vzip") || !strcmp(row->mnemonic, "vuzp")) &&
        field(p, raw, "vd") == field(p, raw, "vm"))
        return true;
    if (strstr(row->operands, "list") && has_field(p, "rn")) {
        unsigned list = (unsigned)field(p, raw, "list");
        bool load = strstr(row->mnemonic, "ld");

        if (list >> rn & 1 && (has_field(p, "w") ? field(p, raw, "w") != 0 : !load))
            return true;
        return thumb && list >> 13 & 1;
    }
    if (is_memory(row) && writeback && has_field(p, "rn")) {
        if (rn == 15 || (has_field(p, "rt") && rn == rt) || (has_field(p, "rm") && rm == rn))
            return true;
        if ((has_field(p, "rt2") && field(p, raw, "rt2") == rn) || (strstr(row->mnemonic, "rd") && ((rt + 1) & 15) == rn))
            return true;
    }
    if (is_memory(row) && has_field(p, "rt") && rt == 15 && strcmp(row->mnemonic, "ldr") && strcmp(row->mnemonic, "str"))
        return true;
    if (is_memory(row) && strstr(row->mnemonic, "ldrd") && has_field(p, "rm") && (rm == rt || rm == rt + 1))
        return true;
    /* SUBS PC, LR and its kin: an exception return, of which User mode has none */
    return !is_memory(row) && has_field(p, "s") && field(p, raw, "s") && has_field(p, "rd") && field(p, raw, "rd") == 15;
}

static uint32_t small_operands(const struct any_row *row, const struct pattern *p, uint32_t raw)
{
    if (one_in(16))
        return raw;
    raw = pattern_put(p, "imm12", raw, roll(2) ? roll(16) * 4 : roll(64));
    raw = pattern_put(p, "imm8", raw, roll(16));
    if (has_field(p, "stype") && roll(4)) {
        raw = pattern_put(p, "stype", raw, 0);
        raw = pattern_put(p, "imm5", raw, roll(3));
    }
    return raw;
}

static bool outside(uint64_t target)    /* of all code: nothing is there */
{
    return target - (DATA_BASE32 + CODE_OFFSET) >= CASE_MAX * CASE_BYTES && target - RUNNER_BASE32 >= RUNNER_BYTES &&
           target < 0x80000000 && target > 0x41000000;
}

static bool branch_ok(uint32_t raw, unsigned width, unsigned place)
{
    uint64_t start = case_place(&arch.machine, place), pc = start + CASE_START;
    struct case_request c = { 0 };
    struct code_fetch f;
    struct a32_insn i;
    struct insn_info info;
    uint32_t word = width == 16 || !thumb ? raw : raw >> 16 | raw << 16;

    c.code[CASE_START / 4] = word;
    f = machine_fetch(&c, place);
    if (!arch.machine.guest->decode(&f, pc, MODE_AARCH32 | (thumb ? MODE_THUMB : 0), &i, &info))
        return false;
    return info.target - start < CASE_BYTES ? info.target != pc && (info.target & 3) == 0 : outside(info.target);
}

static bool encode(const struct any_row *row, unsigned place, uint32_t *out)
{
    uint32_t raw = pattern_random(row);
    struct pattern p;
    bool ok;

    pattern_parse(row->pattern, &p);
    if (roll(3) || thumb)
        raw = pattern_put(&p, "cond", raw, 14);
    if (is_memory(row))
        raw = small_operands(row, &p, raw);
    if (is_memory(row) && ((has_field(&p, "rn") && field(&p, raw, "rn") == 15) || row->flags & A32_ROW_LIT)) {
        raw = literal(row, &p, raw, &ok);
        if (!ok)
            return false;
    }
    if ((row->flow == FLOW_COND || row->flow == FLOW_JUMP || row->flow == FLOW_CALL) && roll(3))
        raw = pattern_put(&p, "imm", raw, (uint64_t)(int64_t)((int)roll(12) * 4 - CASE_START - (thumb ? 4 : 8)));
    if (has_field(&p, "reg"))           /* VMRS, VMSR: of FPSCR; others tell who the processor is, or are privileged */
        raw = pattern_put(&p, "reg", raw, 1);
    if (row->mnemonic[0] == 'b' && has_field(&p, "rm") && field(&p, raw, "rm") == 15)   /* BX PC: the rest would be A32 */
        return false;
    *out = raw;
    if (!is_row(raw, row) || unpredictable(row, &p, raw))
        return false;
    return row->target < 0 || branch_ok(raw, row->width, place);
}

/* ---- cases */

static uint64_t lane(unsigned kind)
{
    switch (kind) {
    case 0: return value_f64();
    case 1: return (uint64_t)value_f32() << 32 | value_f32();
    case 2: return (uint64_t)value_f16() << 48 | (uint64_t)value_f16() << 32 | (uint32_t)value_f16() << 16 | value_f16();
    case 3: return value64();
    case 4: return (uint64_t)(uint32_t)value64() << 32 | (uint32_t)value64();
    case 5: return value64() << 48 | (value64() & 0xffff) << 32 | (value64() & 0xffff) << 16 | (value64() & 0xffff);
    default: return random64();
    }
}

static void random_state(struct case_state *s)
{
    unsigned kind = roll(7);

    for (unsigned n = 0; n < 15; n++)
        s->r[n] = (uint32_t)value64();
    for (unsigned n = 0; n < 16; n++)
        for (unsigned h = 0; h < 2; h++)
            s->v[n][h] = lane(roll(4) ? kind : roll(7));
    s->flags = roll(32) << 27 | roll(16) << 16 | 0x10 | (thumb ? PSR_T : 0);
    s->fpcr = one_in(2) ? 0 : one_in(2) ? roll(4) << 22 : g_rand_int(dice) & FPSCR_MODES;
    s->fpcr |= one_in(2) ? 0 : g_rand_int(dice) & FPSCR_FLAGS;
}

static uint32_t random_address(void)
{
    uint32_t at = WINDOW_OFFSET + 192 + roll(WINDOW_BYTES - 384);

    if (roll(8))
        at &= ~7u;
    if (one_in(32))
        at = roll(2) ? DATA_BYTES - 1 - roll(80) : roll(64) - 32u;
    return (uint32_t)arch.machine.data_base + at;
}

static void aim(struct case_request *c, const struct any_row *row, uint32_t raw)
{
    struct pattern p;
    unsigned rn, rm;

    pattern_parse(row->pattern, &p);
    rn = has_field(&p, "rn") ? (unsigned)field(&p, raw, "rn") : 13;
    rm = (unsigned)field(&p, raw, "rm");
    if (one_in(32))
        return;
    if (has_field(&p, "rm") && rm < 15)
        c->state.r[rm] = roll(24);
    if (rn < 15)
        c->state.r[rn] = random_address();
}

static unsigned put_code(struct case_request *c, unsigned offset, uint32_t raw, unsigned width)
{
    uint32_t word = thumb && width == 32 ? raw >> 16 | raw << 16 : raw;

    memcpy((uint8_t *)c->code + offset, &word, width / 8);
    return offset + width / 8;
}

/* Not to stand in an IT block. */
static bool no_it(const struct any_row *row) { return row->flags & A32_ROW_NOIT || (of_a32(row) && row->value >> 28 == 15); }

/* IT over n instructions, conditions at random among the two. */
static uint32_t random_it(unsigned n)
{
    unsigned cond = roll(14), mask = 8u >> (n - 1);

    for (unsigned k = 1; k < n; k++)
        mask |= roll(2) << (4 - k);
    return 0xbf00 | cond << 4 | mask;
}

static bool is_store_exclusive(const struct any_row *row) { return !strncmp(row->mnemonic, "strex", 5) || !strncmp(row->mnemonic, "stlex", 5); }

/* The load that goes with a store-exclusive: of the same size, from the same address. */
static uint32_t reserve(uint32_t raw)
{
    unsigned rn = raw >> 16 & 15, rt = rn == 2 || rn == 3 ? 4 : 2;

    if (!thumb)                         /* cond 0001 1oo0 rn rd 11al 1001 rt -> L, rt, 1111 */
        return (raw & 0xfff00ff0) | 1u << 20 | rn << 16 | rt << 12 | 0xf;
    if ((raw & 0xfff00000) == 0xe8400000)       /* STREX: rn rt rd imm8 */
        return (raw & 0xff) | 0xe8500f00 | rn << 16 | rt << 12;
    return (raw & 0x000f00f0) | 0xe8d0000f | rt << 12 | ((raw & 0x30) == 0x30 ? (rt + 1) << 8 : 0xf00);
}

static bool make(const struct any_row *row, unsigned place, struct case_request *c)
{
    unsigned offset = CASE_START;
    uint32_t raw;

    if (!encode(row, place, &raw))
        return false;
    random_state(&c->state);
    if (is_memory(row))
        aim(c, row, raw);
    if (!strcmp(row->mnemonic, "vmsr"))
        c->state.r[raw >> 12 & 15] &= FPSCR_MODES | FPSCR_FLAGS;
    if (thumb && row->target < 0 && !no_it(row) && one_in(4))
        offset = put_code(c, offset, random_it(1), 16);
    if (is_store_exclusive(row) && offset == CASE_START && roll(2))
        offset = put_code(c, offset, reserve(raw), 32);
    put_code(c, offset, of_a32(row) ? t32_of(raw) : raw, row->width);
    return true;
}

/* Streams: addresses are in this register, which nothing writes. */
enum { STREAM_BASE = 6 };

static bool fits_stream(const struct any_row *row, const struct pattern *p, uint32_t raw)
{
    static const char *const written[] = { "rd", "rt", "rt2", "ra" };
    bool memory = is_memory(row);

    for (unsigned n = 0; n < G_N_ELEMENTS(written); n++) {
        unsigned r = (unsigned)field(p, raw, written[n]);

        if (has_field(p, written[n]) && (r == STREAM_BASE || r == 15 || (strstr(row->mnemonic, "rd") && r + 1 == STREAM_BASE)))
            return false;
    }
    if (has_field(p, "rn") && !memory && field(p, raw, "rn") == STREAM_BASE)          /* may be written, as RdHi, say */
        return false;
    if (is_store_exclusive(row))        /* after another load than its own: it may succeed or fail */
        return false;
    if (!strcmp(row->mnemonic, "vmsr")) /* of any bits */
        return false;
    if (strstr(row->operands, "list") || row->flags & (A32_ROW_LASTIT | A32_ROW_SP | A32_ROW_LIT) || (thumb && no_it(row)))
        return false;
    return !memory || (!(has_field(p, "w") && field(p, raw, "w")) && !(has_field(p, "p") && !field(p, raw, "p")) && !has_field(p, "rm") && has_field(p, "rn"));
}

/* A conditional branch from one offset to another: where two ways meet, flags may be of either. */
static void put_branch(struct case_request *c, unsigned from, unsigned to, unsigned cond)
{
    if (thumb)
        put_code(c, from, 0xd000 | cond << 8 | ((to - from - 4) / 2 & 0xff), 16);
    else
        put_code(c, from, cond << 28 | 0x0a000000 | ((to - from - 8) / 4 & 0xffffff), 32);
}

static bool make_stream(const struct any_row *const *rows, unsigned n, unsigned place, struct case_request *c)
{
    unsigned offset = CASE_START, in_it = 0, branch = 0, over = 0, cond = 0;

    random_state(&c->state);
    c->state.r[STREAM_BASE] = arch.machine.data_base + CPU_PAGE_SIZE;
    for (unsigned k = 0; k < n && offset < CASE_BYTES - 14; k++) {
        struct pattern p;
        uint32_t raw;

        if (!encode(rows[k], place, &raw))
            continue;
        pattern_parse(rows[k]->pattern, &p);
        if (is_memory(rows[k]))
            raw = pattern_put(&p, "rn", raw, STREAM_BASE);
        if (!is_row(raw, rows[k]) || unpredictable(rows[k], &p, raw) ||
            !fits_stream(rows[k], &p, raw))
            continue;
        if (!over && !in_it && one_in(2)) {
            branch = offset;
            over = 1 + roll(3);
            cond = roll(14);
            offset += thumb ? 2 : 4;
        }
        if (thumb && !in_it && one_in(3)) {
            in_it = 1 + roll(3);
            offset = put_code(c, offset, random_it(in_it), 16);
        }
        in_it -= in_it > 0;
        offset = put_code(c, offset, of_a32(rows[k]) ? t32_of(raw) : raw, rows[k]->width);
        over -= over > 1 || (over && !in_it);           /* not into an IT block */
        if (branch && !over) {
            put_branch(c, branch, offset, cond);
            branch = 0;
        }
    }
    if (branch)
        put_branch(c, branch, offset, cond);
    return offset > CASE_START;
}

/* ---- floating point */

/* Modes: four of rounding, without and with flush to zero, default NaN, and those of halves: alternative format, flush to zero. */
static unsigned fp_modes(const struct any_row *row, const struct case_request *c)
{
    uint32_t v = c->state.fpcr;

    return 1u << ((v >> 22 & 3) + (v >> 24 & 1 ? 4 : 0)) | (v >> 25 & 1) << 8 | (v >> 26 & 1) << 9 | (v >> 19 & 1) << 10;
}

static unsigned fp_modes_wanted(const struct any_row *row) { return is_simd(row) && !is_memory(row) ? 0x7ff : 0; }

/* ---- comparison */

/* The one flag that is knowingly inexact, see a64_fp.c: underflow of what rounds up to the least normal number. */
static void allow_tiny(const struct case_state *oracle, struct case_state *ours)
{
    bool least = false;

    if ((oracle->fpcr ^ ours->fpcr) != 8 || !(oracle->fpcr & 8))
        return;
    for (unsigned n = 0; n < 32; n++) {
        uint64_t v = oracle->v[n / 2][n & 1];

        least |= (v & INT64_MAX) == UINT64_C(1) << 52 || (v & INT32_MAX) == 1 << 23 || (v >> 32 & INT32_MAX) == 1 << 23;
        for (unsigned k = 0; k < 64; k += 16)           /* VCVT to halves */
            least |= (v >> k & INT16_MAX) == 1 << 10;
    }
    if (least)
        ours->fpcr |= 8;
}

static bool allow(const struct case_request *c, struct case_state *oracle, struct case_state *ours)
{
    if (ours->signal == SIGSEGV && !outside(ours->address) && ours->address - DATA_BASE32 >= 0x1000000)
        return false;                   /* the case met the runner's own memory, which is not in our machine */
    if (ours->signal == SIGILL)
        oracle->address = ours->address;
    if (ours->pc - DATA_BASE32 < 0x1000000 && (ours->pc ^ c->state.pc) >= CASE_BYTES)   /* jumped into another case, or data */
        return false;
    if (!(oracle->flags & PSR_T) && oracle->pc & 3)     /* UNPREDICTABLE */
        return false;
    oracle->flags &= PSR_SHOWN;
    allow_tiny(oracle, ours);
    return true;
}

static char *describe(const struct case_request *c, unsigned place)
{
    GString *s = g_string_new(NULL);
    uint64_t mode = MODE_AARCH32 | (thumb ? MODE_THUMB : 0);

    for (unsigned offset = CASE_START; offset < CASE_BYTES;) {
        const uint8_t *at = (const uint8_t *)c->code + offset;
        uint16_t half;
        unsigned len;
        uint32_t raw;
        g_autofree char *text = NULL;

        memcpy(&half, at, 2);
        memcpy(&raw, at, 4);
        len = !thumb || half >> 11 >= 0x1d ? 4 : 2;
        if (thumb ? half == 0xbe00 : raw == arch.trap)
            break;
        raw = !thumb ? raw : len == 4 ? raw >> 16 | raw << 16 : half;
        text = guest_arm.disassemble(at, len, case_place(&arch.machine, place) + offset, mode);
        g_string_append_printf(s, "%0*x  %s\n", (int)len * 2, raw, text ? text : "?");
        offset += len;
    }
    return g_string_free(s, FALSE);
}

static const char *const reg_names[] = { "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", NULL };

static void setup(void)
{
    struct arm_cpu *c;

    arch = (struct rows_arch){
        .machine = { .guest = &guest_arm, .data_base = DATA_BASE32, .load = load, .store = store, .signal = signal_of, .fault = fault },
        .oracle = "arm", .oracle_cpu = "max", .reg_name = reg_names, .trap = thumb ? 0xbe00be00 : 0xe1200070,
        .rows = (const struct any_row *)a32_rows, .nrows = a32_row_count,
        .make = make, .make_stream = make_stream, .allow = allow, .group = group, .only_raises = only_raises, .describe = describe,
        .modes = fp_modes, .modes_wanted = fp_modes_wanted,
    };
    if (thumb)
        arch.rows = rows_of_t32(&arch.nrows);
    c = arm(rows_start(&arch));
    memset(&c->features, 0xff, sizeof(c->features));
    c->features.bits[AF_EL2 >> 6] &= ~(UINT64_C(1) << (AF_EL2 & 63));
    c->features.bits[AF_EL3 >> 6] &= ~(UINT64_C(1) << (AF_EL3 & 63));
    c->sys.cpacr = 3 << 20;             /* floating point is not trapped */
    c->sys.fpexc = 1u << 30;
    c->aarch32 = true;
    c->thumb = thumb;
    c->mode32 = 0x10;
}

int main(int argc, char **argv)
{
    static const char *const groups[] = { "integer", "simd" };

    g_test_init(&argc, &argv, NULL);
    thumb = argc > 1 && !strcmp(argv[1], "t32");
    setup();
    for (unsigned n = 0; n < G_N_ELEMENTS(groups); n++) {
        g_autofree char *path = g_strdup_printf("/isa/%s/%s", thumb ? "t32" : "a32", groups[n]);

        g_test_add_data_func(path, groups[n], rows_test);
    }
    g_test_add_data_func(thumb ? "/isa/t32/reached" : "/isa/a32/reached", NULL, rows_test_reached);
    g_test_add_data_func(thumb ? "/isa/t32/streams" : "/isa/a32/streams", NULL, rows_test_streams);
    return g_test_run();
}
