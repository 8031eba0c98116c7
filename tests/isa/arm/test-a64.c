/* Rows of isa/aarch64*.isa against QEMU's user mode, or vixl's simulator. usage: test-a64 qemu|vixl; see oracle/rows.h for what
 * steers it. What an access's address is made of
 * is told from the encoding (DDI 0487 C4.1), not from the rows. */
#include <signal.h>
#include <string.h>
#include "../oracle/rows.h"
#include "guest/arm/a64.h"
#include "guest/arm/simd_ops.h"
#include "guest/arm/system.h"
#include "vixl.h"

enum { NZCV = 0xf0000000, FPSR_BITS = 0x0800009f, FPCR_BITS = 0x07c80000 };    /* FPCR: AHP, DN, FZ, RMode, FZ16 */
static struct rows_arch arch;
static bool vixl;

/* ---- state */

static void load(struct cpu *cpu, const struct case_state *s)
{
    struct arm_cpu *c = arm(cpu);

    memcpy(c->x, s->r, sizeof(c->x));
    c->sp = s->r[31];
    memcpy(c->q, s->v, sizeof(c->q));
    arm_pstate_set_nzcv(c, s->flags);
    cpu->fp_control &= ~0x3fu;
    c->fp_status.flags = 0;
    arm_set_fpcr(c, s->fpcr);
    arm_set_fpsr(c, s->fpsr);
    c->ex_bytes = 0;
    c->btype = 0;
}

static void store(struct cpu *cpu, struct case_state *s)
{
    struct arm_cpu *c = arm(cpu);

    memcpy(s->r, c->x, sizeof(c->x));
    s->r[31] = c->sp;
    memcpy(s->v, c->q, sizeof(c->q));
    s->flags = arm_pstate_nzcv(c);
    s->fpcr = c->fpcr;
    s->fpsr = arm_fpsr(c);
}

static int signal_of(struct cpu *cpu, uint64_t *address)
{
    struct arm_cpu *c = arm(cpu);

    *address = cpu->pc;
    switch (cpu->exception) {
    case ARM_EXC_UNDEF: return SIGILL;
    case ARM_EXC_DATA: *address = c->exc_far; return SIGSEGV;
    case ARM_EXC_SYNC: break;
    default: return 1000 + cpu->exception;
    }
    switch (c->exc_syndrome >> 26) {
    case EC_UNKNOWN: case EC_BTI: case EC_FPAC: return SIGILL;
    case EC_BRK64: return 0;
    case EC_PC_ALIGN: case EC_SP_ALIGN: return SIGBUS;
    case 0x24:                          /* data abort: of what is unaligned; others are fault()'s */
        *address = c->exc_far;
        return (c->exc_syndrome & 63) == 0x21 ? SIGBUS : SIGSEGV;
    default: return (int)(2000 + (c->exc_syndrome >> 26));
    }
}

static void fault(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    cpu->exception = ARM_EXC_DATA;
    arm(cpu)->exc_far = va;
}

/* ---- what the generator leaves out, and why */

static const struct left_out left_out[] = {
    { "svc", "the kernel's" }, { "hvc", "" }, { "smc", "" }, { "hlt", "semihosting" }, { "wfi", "waits" }, { "wfe", "waits" }, { "wfit", "waits" },
    { "wfet", "waits" }, { "dcps", "debugger's" }, { "eret", "privileged" }, { "drps", "debugger's" },
    { "pac", "with keys nobody knows" }, { "aut", "with keys" }, { "xpac", "not in the oracle without keys" },
    { "bra", "with keys" }, { "blra", "with keys" }, { "reta", "with keys" }, { "ldra", "with keys" },
    { "sys", "the kernel's" }, { "at", "" }, { "tlbi", "" }, { "ic", "" }, { "dc", "" },
    { "rndr", "random" }, { "minmax", "CSSC, which QEMU 10.0 has not" }, { "ctz", "CSSC" }, { "cnt", "CSSC" }, { "abs", "CSSC" }, { "tcommit", "" }, { "tstart", "" }, { "ttest", "" }, { "tcancel", "" },
};

static bool is_tag(const char *m)       /* memory tagging */
{
    static const char *const words[] = { "irg", "gmi", "subp", "subps", "addg", "subg", "stg", "stzg", "st2g", "stz2g", "ldg", "ldgm", "stgm",
                                         "stzgm", "stgp" };

    for (unsigned n = 0; n < G_N_ELEMENTS(words); n++)
        if (!strcmp(m, words[n]))
            return true;
    return false;
}

static bool is_simd(uint32_t raw) { return (raw >> 25 & 7) == 7 || ((raw >> 25 & 5) == 4 && raw >> 26 & 1); }
static bool is_memory(uint32_t raw) { return (raw >> 25 & 5) == 4; }

static const char *group(const struct any_row *row, const char **why)
{
    *why = row->flags & A64_ROW_NOTEST ? "the row says why" : is_tag(row->mnemonic) ? "memory tagging, which QEMU's user mode does its own way" : NULL;
    if (!*why && !is_simd(row->value))
        *why = left_out_why(left_out, G_N_ELEMENTS(left_out), row->mnemonic);
    if (!*why && vixl)
        *why = vixl_lacks(row);
    if (*why)
        return NULL;
    return is_simd(row->value) ? is_memory(row->value) ? "simd-memory" : "simd" : "integer";
}

/* ---- states */

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

    for (unsigned n = 0; n < 32; n++)
        s->r[n] = value64();
    for (unsigned n = 0; n < 32; n++)
        for (unsigned h = 0; h < 2; h++)
            s->v[n][h] = lane(roll(4) ? kind : roll(7));
    s->flags = roll(16) << 28;
    s->fpcr = one_in(2) ? 0 : one_in(2) ? roll(4) << 22 : g_rand_int(dice) & FPCR_BITS;
    s->fpsr = one_in(2) ? 0 : g_rand_int(dice) & FPSR_BITS;
    if (vixl)
        s->fpcr &= VIXL_FPCR_BITS;
}

/* Where accesses go: mostly into the window, aligned; at times over an edge into nothing, or over the pages' boundary. */
static uint64_t random_address(bool aligned)
{
    uint64_t at = WINDOW_OFFSET + 64 + roll(WINDOW_BYTES - 192);

    if (roll(8) || aligned)
        at &= ~UINT64_C(15);
    if (aligned)
        return arch.machine.data_base + at;
    if (one_in(32))
        at = roll(2) ? DATA_BYTES - 1 - roll(40) : roll(4) - UINT64_C(16);
    else if (one_in(16))
        at = CPU_PAGE_SIZE - roll(24);
    return arch.machine.data_base + at;
}

/* ---- loads and stores */

struct access { unsigned rn, rm; bool index, writeback, literal; int64_t offset; unsigned option, shift; };

static int64_t field(uint32_t raw, unsigned pos, unsigned len)
{
    return (int64_t)((uint64_t)raw << (64 - pos - len)) >> (64 - len);
}

static unsigned access_scale(uint32_t raw)      /* of the single-register forms: log2 of the bytes */
{
    return raw >> 26 & 1 && raw >> 23 & 1 ? 4 : raw >> 30;
}

static void access_pair(uint32_t raw, struct access *a)
{
    unsigned kind = raw >> 23 & 3, scale = raw >> 26 & 1 ? 2 + (raw >> 30) : 2 + (raw >> 31);

    a->offset = kind == 1 ? 0 : field(raw, 15, 7) * (1 << scale);
    a->writeback = kind & 1;
}

static void access_single(uint32_t raw, struct access *a)
{
    if (raw >> 24 & 1) {
        a->offset = (int64_t)(raw >> 10 & 0xfff) << access_scale(raw);
    } else if (!(raw >> 21 & 1)) {
        a->offset = (raw >> 10 & 3) == 1 ? 0 : field(raw, 12, 9);
        a->writeback = raw >> 10 & 1;
    } else if ((raw >> 10 & 3) == 2) {
        a->index = true;
        a->option = raw >> 13 & 7;
        a->shift = raw >> 12 & 1 ? access_scale(raw) : 0;
    }
}

static struct access access_of(uint32_t raw)
{
    struct access a = { .rn = raw >> 5 & 31, .rm = raw >> 16 & 31 };

    if ((raw & 0x3b000000) == 0x18000000) {
        a.literal = true;
        a.offset = field(raw, 5, 19) * 4;
    } else if ((raw & 0x3f200c00) == 0x19000000) {      /* LDAPUR, STLUR */
        a.offset = field(raw, 12, 9);
    } else if ((raw & 0x3a000000) == 0x28000000) {
        access_pair(raw, &a);
    } else if ((raw & 0x3a000000) == 0x38000000) {
        access_single(raw, &a);
    } else if ((raw & 0xbe800000) == 0x0c800000) {      /* structures, post-indexed */
        a.writeback = true;
    }
    return a;
}

/* What DDI 0487 K1.2 leaves to the processor; the oracle chose one way, we may another. */
static bool unpredictable(uint32_t raw)
{
    struct access a = access_of(raw);
    unsigned rt = raw & 31, rt2 = raw >> 10 & 31, rs = raw >> 16 & 31;
    bool simd = raw >> 26 & 1, pair = (raw & 0x3a000000) == 0x28000000, load = raw >> 22 & 1;

    if (!is_memory(raw))
        return false;
    if (pair && load && rt == rt2)
        return true;
    if (a.writeback && !simd && a.rn != 31 && (a.rn == rt || (pair && a.rn == rt2)))
        return true;
    if ((raw & 0x3f000000) == 0x08000000) {             /* exclusives */
        bool store = !load && !(raw >> 23 & 1), two = raw >> 21 & 1;

        if (two && load && !(raw >> 23 & 1) && rt == rt2)
            return true;
        if (store && rs != 31 && (rs == rt || rs == a.rn || (two && rs == rt2)))
            return true;
        if (store && rs == 31 && (rt == 31 || (two && rt2 == 31)))
            return true;
    }
    return false;
}

/* An index that keeps the address near: as the extension reads it. */
static uint64_t random_index(const struct access *a)
{
    int64_t v = (int64_t)roll(33) - (a->option & 4 ? 16 : 0);

    return a->option & 1 ? (uint64_t)v : (uint64_t)(uint32_t)v | random64() << 32;
}

static void aim(struct case_request *c, uint32_t raw)
{
    struct access a = access_of(raw);
    /* QEMU's user mode does not ask whether exclusive accesses are aligned (B2.2.1.1 does) */
    bool exclusive = (raw & 0x3f800000) == 0x08000000;
    uint64_t at = random_address(a.rn == 31 || exclusive), offset = (uint64_t)a.offset;
    uint64_t *base = &c->state.r[a.rn];         /* 31: SP */

    if (a.literal || (one_in(32) && !exclusive))
        return;
    if (a.index) {
        if (a.rm != 31) {
            c->state.r[a.rm] = random_index(&a);
            offset = (uint64_t)(a.option & 1 ? (int64_t)c->state.r[a.rm]
                                             : a.option & 4 ? (int32_t)c->state.r[a.rm] : (int64_t)(uint32_t)c->state.r[a.rm]) << a.shift;
        }
        if (a.rm == a.rn && a.rn != 31)
            return;
    }
    *base = a.rn == 31 ? (at - offset) & ~UINT64_C(15) : at - offset;
}

/* ---- encodings */

static struct a64_insn *decode(uint32_t raw, uint64_t pc)
{
    static struct a64_insn i;

    memset(&i, 0, sizeof(i));
    i.raw = raw;
    i.pc = pc;
    i.len = 4;
    i.row = a64_row_find(raw, 32, NULL, &i);
    return &i;
}

static uint32_t put_bits(uint32_t raw, unsigned pos, unsigned len, uint32_t value)
{
    uint32_t m = ((1u << len) - 1) << pos;

    return (raw & ~m) | (value << pos & m);
}

/* System registers whose content the oracle and we agree on: NZCV, FPCR, FPSR. */
static uint32_t random_sysreg(uint32_t raw)
{
    static const uint16_t regs[] = { 0x5a10, 0x5a20, 0x5a21 };

    return put_bits(raw, 5, 15, regs[roll(vixl ? 2 : 3)]);
}

/* A branch's offset in words, into the case's code or beyond all of it. */
static uint32_t random_branch(unsigned width)
{
    int32_t words = (int32_t)roll(12) - CASE_START / 4;

    if (words == 0)
        words = 1;
    if (width > 14 && one_in(3))
        words = (roll(2) ? 1 : -1) * (int32_t)(CASE_MAX * CASE_BYTES / 4 + roll(1000));
    return (uint32_t)words;
}

static bool encode(const struct any_row *row, uint32_t *out)
{
    uint32_t raw = pattern_random(row);

    if ((raw & 0x7c000000) == 0x14000000)               /* B, BL */
        raw = put_bits(raw, 0, 26, random_branch(26));
    else if ((raw & 0x7e000000) == 0x34000000 || (raw & 0xfe000000) == 0x54000000)      /* CBZ, B.cond */
        raw = put_bits(raw, 5, 19, random_branch(19));
    else if ((raw & 0x7e000000) == 0x36000000)          /* TBZ */
        raw = put_bits(raw, 5, 14, random_branch(14));
    else if ((raw & 0x3b000000) == 0x18000000)          /* literals, from the case's own code */
        raw = put_bits(raw, 5, 19, (uint32_t)roll(12) - CASE_START / 4);
    else if ((raw & 0xffd00000) == 0xd5100000)          /* MRS, MSR */
        raw = random_sysreg(raw);
    *out = raw;
    return (const void *)decode(raw, 0)->row == row && !unpredictable(raw) && !(vixl && vixl_wrong(row, raw));
}

static bool is_casp(uint32_t raw) { return (raw & 0xbfa00000) == 0x08200000; }
static bool is_store_exclusive(uint32_t raw) { return (raw & 0x3fc00000) == 0x08000000 && !is_casp(raw); }

/* The load that goes with a store-exclusive: of the same size, from the same address. */
static uint32_t reserve(uint32_t raw)
{
    unsigned rn = raw >> 5 & 31;

    raw = put_bits(raw | 1u << 22, 16, 5, 31);
    return put_bits(raw >> 21 & 1 ? put_bits(raw, 10, 5, (rn + 2) % 31) : raw, 0, 5, (rn + 1) % 31);
}

static bool make(const struct any_row *row, unsigned place, struct case_request *c)
{
    unsigned at = CASE_START / 4;
    uint32_t raw;

    if (!encode(row, &raw))
        return false;
    random_state(&c->state);
    if (is_memory(raw))
        aim(c, raw);
    if ((raw & 0xfff00000) == 0xd5100000)               /* MSR: of bits that are there */
        c->state.r[raw & 31] &= (raw >> 5 & 0x7fff) == 0x5a20 ? vixl ? VIXL_FPCR_BITS : FPCR_BITS : (raw >> 5 & 0x7fff) == 0x5a21 ? FPSR_BITS : NZCV;
    if (row->flow == FLOW_INDIRECT)
        c->state.r[raw >> 5 & 31] = roll(2) ? random_address(true) : case_place(&arch.machine, place) + CASE_START + 4 + 4 * roll(11);
    if (is_store_exclusive(raw) && roll(2))
        c->code[at++] = reserve(raw);
    c->code[at] = raw;
    return true;
}

/* Streams: addresses are in this register, which nothing writes; memory forms take an offset or none. */
enum { STREAM_BASE = 25 };

static bool fits_stream(uint32_t raw)
{
    struct access a = access_of(raw);

    if (is_store_exclusive(raw))        /* after another load than its own: it may succeed or fail */
        return false;
    if (is_memory(raw))
        return !a.writeback && !a.index && !a.literal && ((raw & 31) != STREAM_BASE || raw >> 26 & 1) && (raw >> 10 & 31) != STREAM_BASE &&
               (raw >> 16 & 31) != STREAM_BASE;
    return (raw & 31) != STREAM_BASE && (raw & 0xffd00000) != 0xd5100000;
}

static bool make_stream(const struct any_row *const *rows, unsigned n, unsigned place, struct case_request *c)
{
    unsigned at = CASE_START / 4, branch = 0, over = 0;

    random_state(&c->state);
    c->state.r[STREAM_BASE] = arch.machine.data_base + CPU_PAGE_SIZE;
    for (unsigned k = 0; k < n && at < CASE_WORDS - 1; k++) {
        uint32_t raw;

        if (!encode(rows[k], &raw) || (vixl && vixl_has_leftovers(rows[k])))
            continue;
        if (is_memory(raw)) {
            raw = put_bits(raw, 5, 5, STREAM_BASE);
            if ((raw & 0x3b000000) == 0x39000000)       /* unsigned offset */
                raw = put_bits(raw, 10, 12, roll(12));
            else if ((raw & 0x3a000000) == 0x28000000)
                raw = put_bits(raw, 15, 7, roll(8) - 4);
            if ((const void *)decode(raw, 0)->row != rows[k] || unpredictable(raw))
                continue;
        }
        if (!fits_stream(raw))
            continue;
        if (!branch && at < CASE_WORDS - 2 && one_in(2)) {      /* B.cond: where two ways meet, flags may be of either */
            c->code[at] = 0x54000000 | roll(14);
            branch = at++;
            over = 1 + roll(3);
        }
        c->code[at++] = raw;
        if (branch && !--over) {
            c->code[branch] |= (at - branch) << 5;
            branch = 0;
        }
    }
    if (branch)
        c->code[branch] |= (at - branch) << 5;
    return at > CASE_START / 4;
}

/* ---- floating point */

/* Modes: four of rounding, without and with flush to zero, default NaN, and those of halves: alternative format, flush to zero. */
static unsigned fp_modes(const struct any_row *row, const struct case_request *c)
{
    uint32_t v = c->state.fpcr;

    return 1u << ((v >> 22 & 3) + (v >> 24 & 1 ? 4 : 0)) | (v >> 25 & 1) << 8 | (v >> 26 & 1) << 9 | (v >> 19 & 1) << 10;
}

static unsigned fp_modes_wanted(const struct any_row *row)
{
    return !is_simd(row->value) || is_memory(row->value) ? 0 : vixl ? 0x101 : 0x7ff;
}

/* ---- comparison */

/* The one flag that is knowingly inexact, see a64_fp.c: underflow of what rounds up to the least normal number. */
static void allow_tiny(const struct case_state *oracle, struct case_state *ours)
{
    bool least = false;

    if ((oracle->fpsr ^ ours->fpsr) != 8 || !(oracle->fpsr & 8) || arm_fpcr_is_slow(oracle->fpcr))
        return;
    for (unsigned n = 0; n < 64; n++) {
        uint64_t v = oracle->v[n / 2][n & 1];

        least |= (v & INT64_MAX) == UINT64_C(1) << 52 || (v & INT32_MAX) == 1 << 23 || (v >> 32 & INT32_MAX) == 1 << 23;
        for (unsigned k = 0; k < 64; k += 16)           /* FCVT to halves */
            least |= (v >> k & INT16_MAX) == 1 << 10;
    }
    if (least)
        ours->fpsr |= 8;
}

static void allow_vixl(const struct case_request *c, struct case_state *oracle, const struct case_state *ours)
{
    uint32_t raw = c->code[CASE_START / 4];

    oracle->fpsr = ours->fpsr;
    if (ours->signal == SIGSEGV)        /* its host does not tell addresses without their tag, or that it can't have */
        oracle->address = ours->address;
    if (c->code[CASE_START / 4 + 1] == arch.trap && decode(raw, 0)->row)
        vixl_even_out((const struct any_row *)decode(raw, 0)->row, raw, oracle, ours);
}

static bool allow(const struct case_request *c, struct case_state *oracle, struct case_state *ours)
{
    /* The case met the runner's own memory, which is not in our machine. */
    if (ours->signal == SIGSEGV && ours->address - RUNNER_BASE64 < RUNNER_BYTES)
        return false;
    if (ours->signal == SIGILL)
        oracle->address = ours->address;
    if (ours->signal == SIGSEGV && (ours->address + 64) >> 47) /* QEMU's host does not tell addresses it can't have */
        oracle->address = ours->address;
    oracle->flags &= NZCV;
    if (vixl)
        allow_vixl(c, oracle, ours);
    else
        allow_tiny(oracle, ours);
    return true;
}

static char *print_row(uint32_t raw)
{
    struct a64_insn *i = decode(raw, 0);

    return i->row ? bits_format(i->row->mnemonic, i->row->operands, i, a64_field_table, NULL) : g_strdup("undefined");
}

static char *describe(const struct case_request *c, unsigned place)
{
    GString *s = g_string_new(NULL);

    for (unsigned w = CASE_START / 4; w < CASE_WORDS && c->code[w] != arch.trap; w++) {
        g_autofree char *row = print_row(c->code[w]);
        g_autofree char *text = guest_aarch64.disassemble((const uint8_t *)&c->code[w], 4,
                                                          case_place(&arch.machine, place) + 4 * w, 0);

        g_string_append_printf(s, "%08x  %s   [%s]\n", c->code[w], text ? text : "?", row);
    }
    return g_string_free(s, FALSE);
}

static const char *const reg_names[] = {
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
    "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp", NULL,
};

static void setup(void)
{
    struct arm_cpu *c;

    arch = (struct rows_arch){
        .machine = { .guest = &guest_aarch64, .data_base = DATA_BASE64, .load = load, .store = store, .signal = signal_of, .fault = fault },
        .oracle = vixl ? "vixl" : "aarch64", .oracle_cpu = vixl ? NULL : "max,sve=off,sme=off,pauth=off", .reg_name = reg_names,
        .tenths = vixl ? 3 : 0, .trap = 0xd4200000, .rows = (const struct any_row *)a64_rows, .nrows = a64_row_count,
        .make = make, .make_stream = make_stream, .allow = allow, .group = group, .describe = describe,
        .modes = fp_modes, .modes_wanted = fp_modes_wanted,
    };
    c = arm(rows_start(&arch));
    memset(&c->features, 0xff, sizeof(c->features));
    c->features.bits[AF_EL2 >> 6] &= ~(UINT64_C(1) << (AF_EL2 & 63));
    c->features.bits[AF_EL3 >> 6] &= ~(UINT64_C(1) << (AF_EL3 & 63));
    c->sys.cpacr = 3 << 20;             /* floating point is not trapped */
    c->sys.sctlr[1] = SCTLR_UCI | SCTLR_DZE | SCTLR_UCT;
}

int main(int argc, char **argv)
{
    static const char *const groups[] = { "integer", "simd", "simd-memory" };

    g_test_init(&argc, &argv, NULL);
    vixl = argc > 1 && !strcmp(argv[1], "vixl");
    setup();
    for (unsigned n = 0; n < G_N_ELEMENTS(groups); n++) {
        g_autofree char *path = g_strdup_printf("/isa/%s/%s", vixl ? "a64-vixl" : "a64", groups[n]);

        g_test_add_data_func(path, groups[n], rows_test);
    }
    g_test_add_data_func(vixl ? "/isa/a64-vixl/reached" : "/isa/a64/reached", NULL, rows_test_reached);
    g_test_add_data_func(vixl ? "/isa/a64-vixl/streams" : "/isa/a64/streams", NULL, rows_test_streams);
    return g_test_run();
}
