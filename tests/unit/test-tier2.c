/* Tier 2, and loops that the first compile makes whole: whatever they make of random programs of a small guest ends as
 * straight lines do, by interpreter and by host code; what tier 2 makes takes the place of the first compile's region only while
 * that is the truth. */
#include <glib.h>
#include <string.h>
#include "rhea/interp/interp.h"
#include "rhea/jit/jit.h"

enum { REGS = 6, LINKS = 3, PC = 0x400000, WORDS = CPU_PAGE_SIZE / 4, FUEL = 600 };

struct tiny_cpu {
    struct cpu cpu;
    uint64_t r[REGS], link[LINKS], fuel;
    uint64_t halted;            /* no slot */
};

#define SLOT(field, weight) { #field, offsetof(struct tiny_cpu, field), T_I64, weight }
static const struct ir_slot slots[] = {
    SLOT(r[0], 1), SLOT(r[1], 1), SLOT(r[2], 1), SLOT(r[3], 1), SLOT(r[4], 1), SLOT(r[5], 1),
    SLOT(link[0], 1), SLOT(link[1], 1), SLOT(link[2], 1), SLOT(fuel, 1),
};
enum { SLOT_LINK = REGS, SLOT_FUEL = REGS + LINKS };

/* Four bytes: op, a, b, and a signed distance in instructions or an immediate. */
enum { OP_ADDI, OP_ADD, OP_XOR, OP_MUL, OP_BLT, OP_BODD, OP_JUMP, OP_CALL, OP_RET, OP_GO, OP_HALT, OP_COUNT };
struct insn { uint64_t pc; uint8_t op, a, b; int8_t k; };

static uint64_t insn_target(const struct insn *i) { return i->pc + (uint64_t)(4 * (int64_t)i->k); }

static bool decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    static const uint8_t flow[OP_COUNT] = { [OP_BLT] = FLOW_COND, [OP_BODD] = FLOW_COND, [OP_JUMP] = FLOW_JUMP,
                                            [OP_CALL] = FLOW_CALL, [OP_RET] = FLOW_INDIRECT, [OP_GO] = FLOW_INDIRECT,
                                            [OP_HALT] = FLOW_END };
    struct insn *i = insn;
    uint8_t bytes[4];

    for (unsigned n = 0; n < 4; n++)
        if (!code_fetch_byte(f, pc + n, &bytes[n]))
            return false;
    *i = (struct insn){ pc, bytes[0] % OP_COUNT, bytes[1], bytes[2], (int8_t)bytes[3] };
    *info = (struct insn_info){ .len = 4, .flow = flow[i->op], .target = insn_target(i) };
    return true;
}

/* So that all ends: what may go back takes fuel. */
static void burn(struct ir *ir, const struct insn *i)
{
    ir_label go = ir_label_new(ir);
    ir_val left = ir_bin_imm(ir, IR_SUB, ir_get(ir, SLOT_FUEL), 1);

    ir_put(ir, SLOT_FUEL, left);
    ir_brcond(ir, C_GT, left, ir_const(ir, T_I64, 0), go);
    ir_state_store(ir, offsetof(struct tiny_cpu, halted), 3, ir_const(ir, T_I64, 1));
    ir_exit_loop(ir, i->pc);
    ir_label_bind(ir, go);
}

static void emit_branch(struct ir *ir, const struct insn *i, enum ir_cond not, ir_val a, ir_val b)
{
    ir_label skip = ir_label_new(ir);

    ir_brcond(ir, not, a, b, skip);
    ir_goto(ir, insn_target(i));
    ir_label_bind(ir, skip);
}

static void emit(struct ir *ir, const void *insn)
{
    const struct insn *i = insn;
    unsigned a = i->a % REGS, b = i->b % REGS, link = i->a % LINKS;

    if (i->op >= OP_BLT && i->op <= OP_GO)
        burn(ir, i);
    switch (i->op) {
    case OP_ADDI: ir_put(ir, a, ir_bin_imm(ir, IR_ADD, ir_get(ir, b), (uint64_t)(int64_t)i->k)); break;
    case OP_ADD: ir_put(ir, a, ir_bin(ir, IR_ADD, ir_get(ir, a), ir_get(ir, b))); break;
    case OP_XOR: ir_put(ir, a, ir_bin(ir, IR_XOR, ir_get(ir, a), ir_get(ir, b))); break;
    case OP_MUL: ir_put(ir, a, ir_bin(ir, IR_MUL, ir_get(ir, a), ir_get(ir, b))); break;
    case OP_BLT: emit_branch(ir, i, C_GE, ir_get(ir, a), ir_get(ir, b)); break;
    case OP_BODD: emit_branch(ir, i, C_TSTEQ, ir_get(ir, a), ir_const(ir, T_I64, 1)); break;
    case OP_JUMP: ir_goto(ir, insn_target(i)); break;
    case OP_CALL:
        ir_put(ir, SLOT_LINK + link, ir_pc(ir, i->pc + 4));
        ir_call_to(ir, insn_target(i), i->pc + 4);
        break;
    case OP_RET: ir_goto_indirect(ir, ir_get(ir, SLOT_LINK + link), EXIT_RETURN); break;
    case OP_GO: ir_goto_indirect(ir, ir_get(ir, SLOT_LINK + link), EXIT_INDIRECT_JUMP); break;
    default:
        ir_state_store(ir, offsetof(struct tiny_cpu, halted), 3, ir_const(ir, T_I64, 1));
        ir_exit_loop(ir, i->pc);
    }
}

static void nothing(struct ir *ir) { }

static const struct guest tiny = {
    .name = "tiny", .slots = slots, .nslots = G_N_ELEMENTS(slots), .kept = { 0, 2 }, .nkept = 2, .cpu_size = sizeof(struct tiny_cpu),
    .insn_size = sizeof(struct insn), .page_bits = 12, .decode = decode, .emit_begin = nothing, .emit_join = nothing,
    .emit = emit, .emit_end = nothing,
};

_Alignas(CPU_PAGE_SIZE) static uint8_t page[CPU_PAGE_SIZE];

/* Branches lead near; the page's end and what leads out of it halt. */
static void random_program(GRand *rand, unsigned words)
{
    memset(page, OP_HALT, sizeof(page));
    for (unsigned w = 0; w < words; w++) {
        unsigned op = g_rand_int_range(rand, 0, 24), to = g_rand_int_range(rand, 0, words);
        uint8_t *p = page + 4 * w;

        p[0] = op >= OP_COUNT ? OP_ADDI + op % 4 : op;
        if (p[0] == OP_HALT && w + 1 < words && g_rand_int_range(rand, 0, 4))
            p[0] = OP_ADD;
        p[1] = g_rand_int_range(rand, 0, 256);
        p[2] = g_rand_int_range(rand, 0, 256);
        p[3] = p[0] < OP_BLT ? (uint8_t)g_rand_int(rand) : (uint8_t)CLAMP((int)to - (int)w, -120, 120);
    }
}

static void tiny_reset(struct tiny_cpu *c, uint64_t seed, struct jump_entry *jumps)
{
    memset(c, 0, sizeof(*c));
    c->cpu.guest = &tiny;
    c->cpu.fp_control = 0x1f80;
    c->cpu.jump_cache = jumps;
    c->cpu.jump_mask = jump_mask(JUMP_CACHE_BITS);
    c->cpu.pc = PC;
    for (unsigned i = 0; i < REGS; i++)
        c->r[i] = seed * (2 * i + 3) % 17;
    for (unsigned i = 0; i < LINKS; i++)
        c->link[i] = PC + 4 * (seed % 7 + i);
    c->fuel = FUEL;
}

static bool in_page(uint64_t pc) { return pc - PC < CPU_PAGE_SIZE; }

static struct code_fetch fetch_at(uint64_t pc)
{
    return (struct code_fetch){ .first_pc = pc, .page = { page }, .page_va = PC };
}

static bool no_next(struct code_fetch *f) { return false; }

/* ---- by the interpreter: region after region, made by either compile */

struct coin { struct region_profile profile; GRand *rand; };
static bool coin_toss(const struct region_profile *p, uint64_t pc) { return g_rand_boolean(((const struct coin *)p)->rand); }

/* rand: with a profile; g: by the second compile. */
static void run_interpreted(struct tiny_cpu *c, struct graph *g, struct ir *ir, struct ir_analysis *an, GRand *rand)
{
    struct coin coin = { { coin_toss }, rand };
    const struct region_profile *profile = rand ? &coin.profile : NULL;

    while (!c->halted && in_page(c->cpu.pc)) {
        struct code_fetch f = fetch_at(c->cpu.pc);
        struct jit_region_info info;
        g_autofree char *why = NULL;

        f.next_page = no_next;
        if (g)
            g_assert_true(region_build_hot(g, ir, &tiny, &f, c->cpu.pc, 0, 0, profile, &info));
        else
            g_assert_true(region_build(ir, &tiny, &f, c->cpu.pc, 0, 0, profile, &info));
        if (rand) {
            g_assert_cmpuint(info.lo, >=, PC);
            g_assert_cmpuint(info.hi, <=, PC + CPU_PAGE_SIZE);
            if (!ir_validate(ir, &why))
                g_error("%s\n%s", why, ir_print(ir));
            ir_optimize(ir, an);
            if (!ir_validate(ir, &why))
                g_error("optimized: %s\n%s", why, ir_print(ir));
        }
        c->cpu.pc_page = c->cpu.pc & -(uint64_t)CPU_PAGE_SIZE;
        interp_run(&c->cpu, ir);
    }
}

static void assert_same(const struct tiny_cpu *a, const struct tiny_cpu *b, unsigned seed)
{
    if (memcmp(a->r, b->r, sizeof(a->r)) || memcmp(a->link, b->link, sizeof(a->link)) || a->fuel != b->fuel ||
        a->cpu.pc != b->cpu.pc || a->halted != b->halted)
        g_error("seed %u: r0 %" G_GINT64_MODIFIER "x, %" G_GINT64_MODIFIER "x; fuel %d, %d; pc %x, %x", seed, a->r[0], b->r[0],
                (int)a->fuel, (int)b->fuel, (unsigned)a->cpu.pc, (unsigned)b->cpu.pc);
}

static struct jump_entry *jumps_new(void)
{
    struct jump_entry *jumps = g_new0(struct jump_entry, 1 << JUMP_CACHE_BITS);

    jumps[0].pc = 1;
    return jumps;
}

static void test_interpreted(void)
{
    struct ir *ir = ir_new();
    struct ir_analysis *an = ir_analysis_new();
    struct graph *g = graph_new();

    for (unsigned seed = 1; seed <= (g_getenv("SOAK") ? 20000 : 1500); seed++) {
        GRand *rand = g_rand_new_with_seed(seed);
        struct tiny_cpu a, b;

        random_program(rand, 8 + seed % 90);
        tiny_reset(&a, seed, NULL);
        run_interpreted(&a, NULL, ir, an, NULL);
        for (unsigned tier = 1; tier <= 2; tier++) {
            tiny_reset(&b, seed, NULL);
            run_interpreted(&b, tier == 2 ? g : NULL, ir, an, rand);
            assert_same(&a, &b, seed);
        }
        g_rand_free(rand);
    }
    graph_free(g);
    ir_analysis_free(an);
    ir_free(ir);
}

/* ---- by host code, with a cache of regions, links and the second compile among them */

struct machine { struct jit *jit; struct tiny_cpu c; struct jump_entry *jumps; };

static void machine_init(struct machine *m)
{
    struct error err = { 0 };

    m->jit = jit_new(&(struct jit_options){ .guest = &tiny, .tier2 = true, .cache_size = 8 << 20 }, &err);
    g_assert_nonnull(m->jit);
    m->jumps = jumps_new();
}

static void machine_free(struct machine *m)
{
    jit_free(m->jit);
    g_free(m->jumps);
}

static uint64_t phys_of(uint64_t pc) { return (uintptr_t)page + (pc - PC); }

static struct region *region_of(struct machine *m, uint64_t pc)
{
    struct region *r = jit_find(m->jit, phys_of(pc), 0, UINT64_MAX);
    enum jit_failure why;

    if (!r) {
        struct jit_source src = { .cpu = &m->c.cpu, .pc = pc, .phys = phys_of(pc), .fetch = fetch_at(pc) };

        src.fetch.next_page = no_next;
        r = jit_translate(m->jit, &src, &why);
        g_assert_nonnull(r);
        jit_publish(m->jit, r);
    }
    return r;
}

static struct jit_hot_source *source_of(struct machine *m, struct region *r)
{
    struct jit_hot_source *s = g_new0(struct jit_hot_source, 1);

    s->cpu = &m->c.cpu;
    s->phys = r->phys;
    s->pc = PC + (r->phys - (uintptr_t)page);
    s->insns = r->insns;
    s->old = r;
    s->generation = jit_generation(m->jit);
    memcpy(s->bytes, page, sizeof(page));
    return s;
}

static struct region *recompile(struct machine *m, struct region *r)
{
    g_autofree struct jit_hot_source *s = source_of(m, r);
    struct region *better = jit_recompile(m->jit, s);

    return better && jit_supersede(m->jit, better, s) ? better : NULL;
}

static void run_host(struct machine *m, GRand *rand)
{
    struct cpu *cpu = &m->c.cpu;
    struct region_exit *from = NULL;

    while (!m->c.halted && in_page(cpu->pc)) {
        struct region *r = region_of(m, cpu->pc);
        uint64_t left;

        if (rand && !r->tried && !g_rand_int_range(rand, 0, 3)) {
            r->tried = true;
            recompile(m, r);
            r = region_of(m, cpu->pc);
        }
        if (from)
            jit_link(m->jit, from, r);
        cpu->pc_page = cpu->pc & -(uint64_t)CPU_PAGE_SIZE;
        left = jit_run(m->jit, cpu, r->code);
        from = NULL;
        if (left >= JIT_EXIT_FIRST) {
            from = jit_exit(m->jit, left);
            cpu->pc = cpu->pc_page + from->target;
            from = from->patch ? from : NULL;
        }
    }
}

static void test_host(void)
{
    struct ir *ir = ir_new();
    struct machine m;
    struct jit_stats st;

    machine_init(&m);
    for (unsigned seed = 1; seed <= (g_getenv("SOAK") ? 20000 : 1000); seed++) {
        GRand *rand = g_rand_new_with_seed(seed);
        struct tiny_cpu a;

        random_program(rand, 8 + seed % 90);
        tiny_reset(&a, seed, NULL);
        run_interpreted(&a, NULL, ir, NULL, NULL);
        for (unsigned turn = 0; turn < 3; turn++) {     /* what is hot by then is entered from the start */
            tiny_reset(&m.c, seed, m.jumps);
            run_host(&m, rand);
            assert_same(&a, &m.c, seed);
        }
        jit_flush(m.jit);
        g_rand_free(rand);
    }
    jit_get_stats(m.jit, &st);
    g_assert_cmpuint(st.hot.made, >, 100);
    g_assert_cmpuint(st.hot.inlined, >, 100);
    machine_free(&m);
    ir_free(ir);
}

/* ---- loops of which a part lies behind what surely leaves */

/* As compilers lay out `while (a < b) a++, n += a`: the test first, the body behind the end. */
static const uint8_t rotated[][4] = {
    { OP_ADDI, 2, 3, 0 }, { OP_BLT, 0, 1, 3 }, { OP_XOR, 4, 4, 0 }, { OP_HALT },
    { OP_ADDI, 0, 0, 1 }, { OP_BODD, 0, 0, 5 }, { OP_ADD, 2, 0, 0 }, { OP_BLT, 5, 0, (uint8_t)-6 }, { OP_ADDI, 3, 3, 1 },
    { OP_JUMP, 0, 0, (uint8_t)-6 },
    [10] = { OP_ADD, 2, 0, 0 }, { OP_JUMP, 0, 0, (uint8_t)-4 },
};

struct at { struct region_profile profile; uint64_t pc[2]; };
static bool is_at(const struct region_profile *p, uint64_t pc)
{
    const struct at *at = (const struct at *)p;

    return pc == at->pc[0] || pc == at->pc[1];
}

static unsigned insns_of(struct ir *ir, uint64_t pc, unsigned max, uint64_t ran, uint64_t ran_too)
{
    struct at at = { { is_at }, { ran, ran_too } };
    struct code_fetch f = fetch_at(pc);
    struct jit_region_info info;

    f.next_page = no_next;
    g_assert_true(region_build(ir, &tiny, &f, pc, 0, max, &at.profile, &info));
    g_assert_true(ir_validate(ir, NULL));
    return info.insns;
}

static void test_loops(void)
{
    struct ir *ir = ir_new();
    const uint64_t body = PC + 16, odd = PC + 40;

    memset(page, OP_HALT, sizeof(page));
    memcpy(page, rotated, sizeof(rotated));
    g_assert_cmpuint(insns_of(ir, PC, 0, 0, 0), ==, 4);
    g_assert_cmpuint(insns_of(ir, PC, 0, odd, 0), ==, 4);       /* no branch of the region goes there */
    g_assert_cmpuint(insns_of(ir, PC, 0, body, 0), ==, 10);
    g_assert_cmpuint(insns_of(ir, PC, 0, body, odd), ==, 12);   /* and what leads back to the body */
    g_assert_cmpuint(insns_of(ir, PC, 8, body, odd), ==, 8);
    g_assert_cmpuint(insns_of(ir, PC, 7, body, odd), ==, 4);    /* too little of it to lead back */
    g_assert_cmpuint(insns_of(ir, body, 0, 0, 0), ==, 7);       /* from the other side, and through the jump */
    g_assert_cmpuint(insns_of(ir, body, 0, PC + 4, 0), ==, 9);
    g_assert_cmpuint(insns_of(ir, body, 0, PC + 4, odd), ==, 11);
    ir_free(ir);
}

/* ---- taking a region's place */

/* A loop over a call: more than the first compile's region holds. */
static void loop_program(void)
{
    static const uint8_t code[][4] = {
        { OP_ADDI, 0, 0, 1 }, { OP_CALL, 0, 0, 10 }, { OP_BLT, 0, 1, (uint8_t)-2 }, { OP_HALT },
        [11] = { OP_ADD, 2, 0, 0 }, { OP_RET, 0, 0, 0 },
    };

    memset(page, OP_HALT, sizeof(page));
    memcpy(page, code, sizeof(code));
}

static void run_loop(struct machine *m)
{
    tiny_reset(&m->c, 0, m->jumps);
    m->c.r[1] = 50;
    run_host(m, NULL);
    g_assert_cmpuint(m->c.r[0], ==, 50);
    g_assert_cmpuint(m->c.r[2], ==, 50 * 51 / 2);
}

static void test_supersede(void)
{
    struct machine m;
    struct region *old, *better, *callee;

    machine_init(&m);
    loop_program();
    run_loop(&m);
    old = region_of(&m, PC);
    callee = region_of(&m, PC + 4 * 11);
    better = recompile(&m, old);
    g_assert_nonnull(better);
    g_assert_true(better->hot);
    g_assert_cmpuint(better->insns, >=, 5);
    g_assert_true(region_of(&m, PC) == better);
    g_assert_false(old->dead);
    run_loop(&m);
    jit_lock(m.jit);
    jit_kill_locked(m.jit, better);
    jit_unlock(m.jit);
    g_assert_true(region_of(&m, PC) == old);    /* still right, and found again */
    run_loop(&m);
    g_assert_false(callee->dead);
    machine_free(&m);
}

/* Links of others to the region go to the new one, and to neither once both are gone. */
static void test_links(void)
{
    struct machine m;
    struct region *old, *better;
    struct region_exit *in;

    machine_init(&m);
    loop_program();
    page[4 * 20] = OP_JUMP;
    page[4 * 20 + 3] = (uint8_t)-20;
    tiny_reset(&m.c, 0, m.jumps);
    m.c.r[1] = 50;
    m.c.cpu.pc = PC + 4 * 2;            /* the branch back leaves its region */
    run_host(&m, NULL);
    old = region_of(&m, PC);
    in = old->links_in;
    g_assert_nonnull(in);
    better = recompile(&m, old);
    g_assert_nonnull(better);
    g_assert_null(old->links_in);
    g_assert_true(better->links_in == in && in->to == better);
    jit_link(m.jit, in, old);           /* who found the old one before: no second link */
    g_assert_true(in->to == better);
    run_loop(&m);
    jit_lock(m.jit);
    jit_kill_locked(m.jit, better);
    jit_kill_locked(m.jit, old);
    jit_unlock(m.jit);
    g_assert_null(in->to);
    run_loop(&m);
    machine_free(&m);
}

/* What was compiled from bytes of before is not published. */
static void test_stale(void)
{
    struct machine m;
    struct jit_hot_source *s;
    struct region *old, *r;
    struct jit_stats st;

    machine_init(&m);
    loop_program();
    run_loop(&m);
    old = region_of(&m, PC);
    s = source_of(&m, old);
    r = jit_recompile(m.jit, s);
    g_assert_nonnull(r);
    jit_lock(m.jit);
    jit_kill_locked(m.jit, old);        /* its bytes were written while tier 2 was at work */
    jit_unlock(m.jit);
    g_assert_false(jit_supersede(m.jit, r, s));
    g_assert_null(jit_find(m.jit, phys_of(PC), 0, UINT64_MAX));
    run_loop(&m);

    s->old = region_of(&m, PC);
    r = jit_recompile(m.jit, s);
    jit_flush(m.jit);                   /* evicted between compiling and publishing */
    g_assert_false(jit_supersede(m.jit, r, s));
    g_assert_null(jit_recompile(m.jit, s));     /* ... and while it waited */
    jit_get_stats(m.jit, &st);
    g_assert_cmpuint(st.hot.stale, ==, 1);
    run_loop(&m);
    g_free(s);
    machine_free(&m);
}

static void test_queue(void)
{
    static struct cpu a, b;
    static struct region region[HOT_QUEUE + 8];
    unsigned waiting = 0;
    struct hot_queue q = { 0 };
    uint32_t last = UINT32_MAX;

    for (unsigned i = 0; i < HOT_QUEUE + 8; i++) {
        struct jit_hot_source *s = g_new0(struct jit_hot_source, 1);

        s->heat = i * 7 % (HOT_QUEUE + 8);
        s->cpu = i & 1 ? &a : &b;
        s->old = &region[i];
        s->old->tried = true;
        hot_queue_push(&q, s);
    }
    g_assert_cmpuint(q.n, ==, HOT_QUEUE);
    g_assert_cmpuint(q.dropped, ==, 8);
    for (unsigned i = 0; i < HOT_QUEUE + 8; i++)
        waiting += region[i].tried;
    g_assert_cmpuint(waiting, ==, HOT_QUEUE);   /* who was dropped may ask again */
    hot_queue_drop(&q, &a);
    g_assert_cmpuint(q.n, <, HOT_QUEUE);
    g_assert_cmpuint(q.n, >, 0);
    while (q.n) {
        struct jit_hot_source *s = hot_queue_pop(&q);

        g_assert_true(s->cpu == &b);
        g_assert_cmpuint(s->heat, <, last);
        g_assert_cmpuint(s->heat, >=, 8);       /* the eight coldest were dropped */
        last = s->heat;
        g_free(s);
    }
    g_assert_null(hot_queue_pop(&q));
    hot_queue_clear(&q);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tier2/random-programs-interpreted", test_interpreted);
    g_test_add_func("/tier2/loops-in-parts-are-made-whole", test_loops);
    g_test_add_func("/tier2/random-programs-on-the-host", test_host);
    g_test_add_func("/tier2/takes-a-region's-place", test_supersede);
    g_test_add_func("/tier2/takes-its-links", test_links);
    g_test_add_func("/tier2/stale-code-is-not-published", test_stale);
    g_test_add_func("/tier2/queue-keeps-the-hottest", test_queue);
    return g_test_run();
}
