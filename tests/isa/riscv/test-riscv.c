/* Rows of isa/riscv.isa against QEMU's user mode. usage: test-riscv 64|32; see oracle/rows.h for what steers it. */
#include <signal.h>
#include <string.h>
#include "../oracle/oracle.h"
#include "../oracle/rows.h"
#include "guest/riscv/system.h"

static unsigned xlen;
static struct riscv_cpu *machine;       /* what decodes */
static struct rows_arch arch;

/* ---- state */

static uint64_t narrow(uint64_t v) { return xlen == 32 ? (uint64_t)(int32_t)v : v; }

static void features_all(struct riscv_features *f)
{
    static const uint8_t not_these[] = { RVF_E, RVF_V, RVF_H, RVF_Zfinx, RVF_Zdinx };

    memset(f, 0xff, sizeof(*f));
    for (unsigned n = 0; n < G_N_ELEMENTS(not_these); n++)
        f->bits[not_these[n] >> 6] &= ~(UINT64_C(1) << (not_these[n] & 63));
    f->bits[0] &= ~(UINT64_C(1) << (xlen == 32 ? RVF_xlen64 : RVF_xlen32));
}

static void load(struct cpu *cpu, const struct case_state *s)
{
    struct riscv_cpu *c = riscv(cpu);

    for (unsigned n = 0; n < 32; n++) {
        c->x[n] = s->r[n];
        c->f[n].lo = s->v[n][0];
        c->f[n].hi = random64();        /* anything */
    }
    cpu->fp_control &= ~0x3fu;
    c->fp_status.flags = 0;
    riscv_set_frm(c, s->fpcr >> 5 & 7);
    riscv_set_fflags(c, s->fpcr & 31);
    c->reserved_addr = RISCV_NOT_RESERVED;
}

static void store(struct cpu *cpu, struct case_state *s)
{
    struct riscv_cpu *c = riscv(cpu);

    for (unsigned n = 0; n < 32; n++) {
        s->r[n] = n ? c->x[n] : 0;
        s->v[n][0] = c->f[n].lo;
    }
    s->fpcr = riscv_fflags(c) | c->frm << 5;
}

static int signal_of(struct cpu *cpu, uint64_t *address)
{
    switch (cpu->exception) {
    case CAUSE_BREAKPOINT: *address = cpu->pc; return 0;
    case CAUSE_ILLEGAL: *address = cpu->pc; return SIGILL;
    case CAUSE_LOAD_MISALIGNED: case CAUSE_STORE_MISALIGNED: case CAUSE_FETCH_MISALIGNED:
        *address = riscv(cpu)->fault_value;
        return SIGBUS;
    case CAUSE_LOAD_PAGE: case CAUSE_STORE_PAGE: case CAUSE_LOAD_ACCESS: case CAUSE_STORE_ACCESS:
        *address = riscv(cpu)->fault_value;
        return SIGSEGV;
    default: return 1000 + cpu->exception;
    }
}

static void fault(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    cpu->exception = access == ACCESS_WRITE ? CAUSE_STORE_PAGE : CAUSE_LOAD_PAGE;
    riscv(cpu)->fault_value = xlen == 32 ? (uint32_t)va : va;
}

/* ---- cases */

static bool is_memory(const struct any_row *row) { return strchr(row->operands, '(') && row->flow == FLOW_NEXT; }
static bool is_fp(const struct any_row *row) { return strstr(row->pattern, "fs1:") || strstr(row->pattern, "fs2:") || strstr(row->pattern, "fd:"); }

static const struct left_out left_out[] = {
    { "ecall", "the kernel's" }, { "wfi", "waits" }, { "wrs.", "waits" }, { "mret", "of the system" }, { "sret", "" }, { "sfence", "" },
    { "sinval", "" }, { "pause", "waits" }, { "cbo.inval", "the oracle's kernel does not allow it" }, { "cbo.clean", "" }, { "cbo.flush", "" },
};

static const char *group(const struct any_row *row, const char **why)
{
    struct riscv_features f;

    features_all(&f);
    *why = row->flags & RISCV_ROW_NOTEST ? "the row says why" : !riscv_condition(row->cond, &f) ? "not together with all the others" :
           left_out_why(left_out, G_N_ELEMENTS(left_out), row->mnemonic);
    if (*why)
        return NULL;
    return row->width == 16 ? "compressed" : is_fp(row) ? "fp" : "integer";
}

static const char *only_raises(const struct any_row *row)
{
    unsigned csr = row->value >> 20;

    return (row->value & 0x7f) == 0x73 && row->mask >> 20 == 0xfff && csr >> 8 & 3 ? "a privileged CSR" : NULL;
}

/* A floating-point register for an instruction on these formats: mostly one of them, boxed; else anything. */
static uint64_t value_f(const char *mnemonic)
{
    switch (roll(12)) {
    case 0: return value64();
    case 1: return value_f64();
    case 2: return UINT64_C(0xffffffff00000000) | value_f32();
    case 3: return UINT64_C(0xffffffffffff0000) | value_f16();
    case 4: return (uint64_t)value_f32();                               /* not boxed */
    default: break;
    }
    if (strstr(mnemonic, ".h") && (!strstr(mnemonic, ".s") || roll(2)) && (!strstr(mnemonic, ".d") || roll(2)))
        return UINT64_C(0xffffffffffff0000) | value_f16();
    if (strstr(mnemonic, ".s") && (!strstr(mnemonic, ".d") || roll(2)))
        return UINT64_C(0xffffffff00000000) | value_f32();
    return value_f64();
}

static void random_state(struct case_state *s, const char *mnemonic)
{
    for (unsigned n = 1; n < 32; n++)
        s->r[n] = narrow(value64());
    for (unsigned n = 0; n < 32; n++)
        s->v[n][0] = value_f(mnemonic);
    s->fpcr = (one_in(2) ? 0 : roll(32)) | (one_in(16) ? roll(8) : one_in(2) ? 0 : roll(5)) << 5;
}

/* The CSRs whose content the oracle and we agree on; others raise, or tell the time. */
static unsigned random_csr(void)
{
    static const uint16_t privileged[] = { 0x100, 0x104, 0x105, 0x140, 0x141, 0x142, 0x143, 0x144, 0x180, 0x300, 0x305, 0xf14, 0x3a0, 0x7b0 };

    return roll(8) ? 1 + roll(3) : privileged[roll(G_N_ELEMENTS(privileged))];
}

static void decode(uint32_t raw, struct riscv_insn *i)
{
    memset(i, 0, sizeof(*i));
    i->raw = raw;
    riscv_decode_word(i, &machine->features, xlen == 32 ? MODE_XLEN32 : 0);
}

/* Where accesses go: mostly into the window, aligned; at times over its edge into nothing. */
static uint64_t random_address(bool inside)
{
    uint64_t at = WINDOW_OFFSET + 64 + roll(WINDOW_BYTES - 128);

    if (roll(8))
        at &= ~UINT64_C(15) | (roll(2) ? 0 : 8);
    if (one_in(32) && !inside)
        at = roll(2) ? DATA_BYTES - 1 - roll(20) : roll(4) - UINT64_C(8);
    else if (one_in(16))
        at = CPU_PAGE_SIZE - roll(16);
    return arch.machine.data_base + at;
}

/* Targets of branches are the case's own code and what lies beyond all code, never the instruction itself. */
static bool target_ok(const struct riscv_insn *i, unsigned place)
{
    int64_t from_place = CASE_START + (int64_t)i->imm, at = (int64_t)place * CASE_BYTES + from_place;

    if (from_place >= 0 && from_place < CASE_BYTES)
        return from_place % 4 == 0 && from_place != CASE_START;
    return at < 0 || at >= CASE_MAX * CASE_BYTES;
}

static unsigned put_code(struct case_request *c, unsigned offset, uint32_t raw, unsigned len)
{
    memcpy((uint8_t *)c->code + offset, &raw, len);
    return len;
}

/* base: register that holds addresses in a stream; 0: a single instruction. */
static bool encode(const struct any_row *row, unsigned place, struct riscv_insn *i)
{
    struct pattern p;
    uint32_t raw = pattern_random(row);

    pattern_parse(row->pattern, &p);
    raw = pattern_put(&p, "csr", raw, random_csr());
    raw = pattern_put(&p, "rm", raw, one_in(3) ? 7 : roll(5));
    if (row->flow == FLOW_COND || row->flow == FLOW_JUMP)
        raw = pattern_put(&p, "imm", raw, one_in(3) ? g_rand_int(dice) : (uint64_t)(int64_t)((int)roll(12) * 4 - CASE_START));
    decode(raw, i);
    return (const void *)i->row == row && ((row->flow != FLOW_COND && row->flow != FLOW_JUMP) || target_ok(i, place));
}

/* An SC that fails anyway need not raise what the access would (volume I, 14.2): QEMU raises, ours does not. */
static bool is_sc(const struct any_row *row) { return g_str_has_prefix(row->mnemonic, "sc."); }

/* LR of what this SC stores to. */
static uint32_t reserve(const struct riscv_insn *sc)
{
    unsigned rd = sc->rs1 == 31 ? 1 : 31;

    return 0x1000202f | (sc->raw & 0x1000) | (uint32_t)sc->rs1 << 15 | rd << 7;
}

static bool make(const struct any_row *row, unsigned place, struct case_request *c)
{
    unsigned offset = CASE_START;
    struct riscv_insn i;

    if (!encode(row, place, &i))
        return false;
    if (is_sc(row) && !i.rs1)
        return false;
    random_state(&c->state, row->mnemonic);
    if (is_memory(row) && (roll(32) || is_sc(row)))
        c->state.r[i.rs1] = narrow(random_address(is_sc(row)) - (uint64_t)(int64_t)i.imm);
    if (row->flow == FLOW_INDIRECT && roll(4))
        c->state.r[i.rs1] = narrow(roll(2) ? random_address(false) - (uint64_t)(int64_t)i.imm
                                           : case_place(&arch.machine, place) + CASE_START + 4 + 4 * roll(8) - (uint64_t)(int64_t)i.imm);
    if (row->flags & RISCV_ROW_AMO)     /* QEMU's user mode ends at misaligned atomics */
        c->state.r[i.rs1] &= ~UINT64_C(15);
    c->state.r[0] = 0;
    if (is_sc(row) && roll(2))
        offset += put_code(c, offset, reserve(&i), 4);
    offset += put_code(c, offset, i.raw, i.len);
    if (i.len == 2)
        put_code(c, offset, 0x9002, 2);
    return true;
}

/* Streams: addresses are in these registers, which nothing writes. */
enum { STREAM_BASE = 9, STREAM_STACK = 2 };

static bool fits_stream(const struct any_row *row, struct riscv_insn *i)
{
    /* QEMU 10.0 leaves FROUND out, and its flags, where the result is overwritten (volume I, 25.6: they are set) */
    if (g_str_has_prefix(row->mnemonic, "fround"))
        return false;
    /* QEMU 10.0 forgets that x0 is zero after an AMOCAS with rd = x0 (volume I, 2.1: it is hardwired) */
    if (g_str_has_prefix(row->mnemonic, "amocas") && !i->rd)
        return false;
    if ((i->rd == STREAM_BASE || i->rd == STREAM_STACK || i->rd + 1 == STREAM_BASE /* pairs */) && strstr(row->operands, "rd"))
        return false;
    return !(row->flags & RISCV_ROW_SPD) && !is_sc(row);      /* SC of another size than its LR may succeed or fail */
}

static bool make_stream(const struct any_row *const *rows, unsigned n, unsigned place, struct case_request *c)
{
    unsigned offset = CASE_START;

    random_state(&c->state, rows[roll(n)]->mnemonic);
    c->state.r[STREAM_BASE] = narrow(arch.machine.data_base + CPU_PAGE_SIZE + (roll(3) ? 0 : roll(9) - 4));
    c->state.r[STREAM_STACK] = narrow(arch.machine.data_base + CPU_PAGE_SIZE);
    for (unsigned k = 0; k < n; k++) {
        struct riscv_insn i;
        struct pattern p;

        if (!encode(rows[k], place, &i))
            continue;
        if (is_memory(rows[k])) {
            pattern_parse(rows[k]->pattern, &p);
            i.raw = pattern_put(&p, "rs1", i.raw, STREAM_BASE);
            i.raw = pattern_put(&p, "imm", i.raw, (uint64_t)(int64_t)((int)roll(33) * 8 - 128));
            if (rows[k]->flags & RISCV_ROW_AMO && c->state.r[STREAM_BASE] & 15)
                continue;
            i.raw = pattern_put(&p, "uimm", i.raw, roll(17) * 8);
            decode(i.raw, &i);
            if ((const void *)i.row != rows[k])
                continue;
        }
        if (!fits_stream(rows[k], &i))
            continue;
        put_code(c, offset, i.raw, i.len);
        offset += i.len;
    }
    if (offset % 4)
        put_code(c, offset, 0x9002, 2);
    return offset > CASE_START;
}

/* Modes: five of rounding, told by the instruction or by frm, and one that there is not. */
static unsigned fp_modes(const struct any_row *row, const struct case_request *c)
{
    unsigned rm = c->code[CASE_START / 4] >> 12 & 7, frm = c->state.fpcr >> 5;

    return rm != 7 ? 1u << rm : frm < 5 ? 0x100u << frm : 0x2000;
}

static unsigned fp_modes_wanted(const struct any_row *row) { return is_fp(row) && strstr(row->pattern, "rm:3") ? 0x3f1f : 0; }

/* ---- comparison */

static bool allow(const struct case_request *c, struct case_state *oracle, struct case_state *ours)
{
    uint64_t runner = xlen == 32 ? RUNNER_BASE32 : RUNNER_BASE64;

    /* The case met the runner's own memory, which is not in our machine. */
    if (ours->signal == SIGSEGV && ours->address - runner < RUNNER_BYTES)
        return false;
    if (ours->pc - case_place(&arch.machine, 0) < CASE_MAX * CASE_BYTES && (ours->pc ^ c->state.pc) >= CASE_BYTES)
        return false;                   /* jumped into another case */
    if (ours->signal == SIGILL)         /* QEMU tells the address, the specification does not ask */
        oracle->address = ours->address;
    if (ours->signal == SIGSEGV && ours->address >> 47) /* QEMU's host does not tell addresses it can't have */
        oracle->address = ours->address;
    return true;
}

static char *describe(const struct case_request *c, unsigned place)
{
    GString *s = g_string_new(NULL);

    for (unsigned offset = CASE_START; offset < CASE_BYTES;) {
        struct riscv_insn i;
        uint32_t raw = 0;
        g_autofree char *text = NULL;

        memcpy(&raw, (const uint8_t *)c->code + offset, MIN(4, CASE_BYTES - offset));
        if ((raw & 3) != 3)
            raw = (uint16_t)raw;
        if (raw == arch.trap || raw == 0x9002)
            break;
        decode(raw, &i);
        i.pc = case_place(&arch.machine, place) + offset;
        text = riscv_insn_text(&i);
        g_string_append_printf(s, "%08x  %s\n", raw, text);
        offset += i.len;
    }
    return g_string_free(s, FALSE);
}

static const char *const reg_names[] = {
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
    "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "x31", NULL,
};

extern const struct guest guest_riscv64, guest_riscv32;

static void setup(void)
{
    static struct riscv_identity identity = { .cbo_bytes = 64 };

    arch = (struct rows_arch){
        .machine = { .guest = xlen == 32 ? &guest_riscv32 : &guest_riscv64, .data_base = xlen == 32 ? DATA_BASE32 : DATA_BASE64,
                     .load = load, .store = store, .signal = signal_of, .fault = fault },
        .oracle = xlen == 32 ? "riscv32" : "riscv64", .oracle_cpu = "max", .reg_name = reg_names,
        .trap = 0x00100073, .rows = (const struct any_row *)riscv_rows, .nrows = riscv_row_count,
        .make = make, .make_stream = make_stream, .allow = allow, .group = group, .only_raises = only_raises, .describe = describe,
        .modes = fp_modes, .modes_wanted = fp_modes_wanted,
    };
    machine = riscv(rows_start(&arch));
    features_all(&machine->features);
    identity.features = machine->features;
    machine->identity = &identity;
    machine->xlen = (uint8_t)xlen;
    machine->priv = PRV_U;
    machine->mstatus = 3 << 13;         /* FS: dirty */
    machine->menvcfg = machine->senvcfg = 0xf0;         /* cache-block operations */
    machine->mcounteren = machine->scounteren = 7;
}

int main(int argc, char **argv)
{
    static const char *const groups[] = { "integer", "compressed", "fp" };

    g_test_init(&argc, &argv, NULL);
    xlen = argc > 1 && !strcmp(argv[1], "32") ? 32 : 64;
    setup();
    for (unsigned n = 0; n < G_N_ELEMENTS(groups); n++) {
        g_autofree char *path = g_strdup_printf("/isa/riscv%u/%s", xlen, groups[n]);

        g_test_add_data_func(path, groups[n], rows_test);
    }
    g_test_add_data_func(xlen == 32 ? "/isa/riscv32/reached" : "/isa/riscv64/reached", NULL, rows_test_reached);
    g_test_add_data_func(xlen == 32 ? "/isa/riscv32/streams" : "/isa/riscv64/streams", NULL, rows_test_streams);
    return g_test_run();
}
