/* -accel jit,verify=on: each region first by the interpreter, its stores journaled and undone, then by its host code
 * from the same state; both must end alike. What cannot be done twice (devices, helpers with effects, a store to code)
 * is run once, unverified. One vCPU; regions are not linked. */
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include "accel.h"
#include "rhea/base/log.h"

struct store { uint8_t *host; uint8_t n; uint8_t before[32], after[32]; };

struct verify {
    sigjmp_buf abandon;
    GArray *stores;
    uint8_t *start, *interp;    /* guest states: before, after the interpreter */
    size_t size;
    bool journaling;
    uint64_t checked, skipped;
};

void verify_new(struct jit_cpu *jc)
{
    struct verify *v = g_new0(struct verify, 1);

    v->size = jc->vcpu->cpu->guest->cpu_size;
    v->start = g_malloc(v->size);
    v->interp = g_malloc(v->size);
    v->stores = g_array_new(FALSE, FALSE, sizeof(struct store));
    jc->verify = v;
}

void verify_free(struct jit_cpu *jc)
{
    struct verify *v = jc->verify;

    if (!v)
        return;
    g_free(v->start);
    g_free(v->interp);
    g_array_free(v->stores, TRUE);
    g_free(v);
    jc->verify = NULL;
}

void verify_counts(const struct jit_cpu *jc, uint64_t *checked, uint64_t *skipped)
{
    *checked = jc->verify->checked;
    *skipped = jc->verify->skipped;
}

void verify_store(struct jit_cpu *jc, void *host, unsigned n)
{
    struct verify *v = jc->verify;
    uint8_t *p = host;

    while (v->journaling && n) {
        struct store s = { .host = p, .n = MIN(n, sizeof(s.before)) };

        memcpy(s.before, p, s.n);
        g_array_append_val(v->stores, s);
        p += s.n;
        n -= s.n;
    }
}

/* The access cannot be taken back: the run ends here, as if it had not been. */
void verify_abandon(struct jit_cpu *jc)
{
    if (jc->verify->journaling)
        siglongjmp(jc->verify->abandon, 1);
}

static void undo_stores(struct verify *v)
{
    for (unsigned i = 0; i < v->stores->len; i++) {
        struct store *s = &g_array_index(v->stores, struct store, i);

        memcpy(s->after, s->host, s->n);
    }
    for (unsigned i = v->stores->len; i-- > 0;) {
        struct store *s = &g_array_index(v->stores, struct store, i);

        memcpy(s->host, s->before, s->n);
    }
}

/* The first field at `at` or behind that other threads write; NULL: none. */
static const struct guest_reg *next_shared(const struct guest *g, size_t at)
{
    const struct guest_reg *next = NULL;

    for (const struct guest_reg *r = g->regs; r && r->name; r++)
        if (r->group == GUEST_REG_SHARED && r->offset >= at && (!next || r->offset < next->offset))
            next = r;
    return next;
}

/* What the run loop keeps in struct cpu, and what other threads write, stays; the guest's state goes back. */
static void state_restore(struct cpu *cpu, const struct verify *v)
{
    const struct cpu *from = (const struct cpu *)v->start;

    for (size_t at = sizeof(*cpu), end; at < v->size;) {
        const struct guest_reg *r = next_shared(cpu->guest, at);

        end = r ? r->offset : v->size;
        memcpy((uint8_t *)cpu + at, v->start + at, end - at);
        at = r ? end + r->bits / 8u : end;
    }
    cpu->mode = from->mode;
    cpu->jump_cache = from->jump_cache;
    cpu->jump_mask = from->jump_mask;
    cpu->pc = from->pc;
    cpu->pc_page = from->pc_page;
    cpu->fp_control = from->fp_control;
    cpu->exception = from->exception;
    cpu->icount_left = from->icount_left;
}

static bool can_run_twice(const struct ir *ir)
{
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_CALL && ir->helpers[ir->ops[i].aux]->flags & ~HELPER_PURE)
            return false;
    return true;
}

static bool interpret(struct cpu *cpu, struct verify *v, const struct ir *ir)
{
    sigjmp_buf out, *outer = cpu->loop_exit;

    g_array_set_size(v->stores, 0);
    memcpy(v->start, cpu, v->size);
    cpu->loop_exit = &out;
    v->journaling = true;
    if (sigsetjmp(v->abandon, 0)) {
        v->journaling = false;
        cpu->loop_exit = outer;
        undo_stores(v);
        state_restore(cpu, v);
        return false;
    }
    cpu->jit->interpreting = true;
    if (!sigsetjmp(out, 0))
        interp_run(cpu, ir);
    cpu->jit->interpreting = false;
    v->journaling = false;
    cpu->loop_exit = outer;
    memcpy(v->interp, cpu, v->size);
    undo_stores(v);
    state_restore(cpu, v);
    return true;
}

static uint64_t field(const void *state, uint32_t offset, unsigned bytes)
{
    uint64_t x = 0;

    memcpy(&x, (const uint8_t *)state + offset, MIN(bytes, 8));
    return x;
}

static bool differs(GString *s, const char *name, const struct verify *v, const struct cpu *cpu, uint32_t offset,
                    unsigned bytes)
{
    bool any = false;

    for (unsigned i = 0; i < bytes; i += 8) {
        uint64_t a = field(v->interp, offset + i, bytes - i), b = field(cpu, offset + i, bytes - i);

        if (a == b)
            continue;
        g_string_append_printf(s, "  %s%s: interpreter %#" PRIx64 ", host code %#" PRIx64 "\n", name,
                               i ? " (upper part)" : "", a, b);
        any = true;
    }
    return any;
}

static void compare(struct cpu *cpu, struct verify *v, const struct ir *ir, uint64_t pc)
{
    const struct guest *g = cpu->guest;
    const struct cpu *a = (const struct cpu *)v->interp;
    g_autoptr(GString) s = g_string_new(NULL);

    if (a->pc != cpu->pc || a->exception != cpu->exception)
        g_string_append_printf(s, "  pc %#" PRIx64 " exception %d, host code pc %#" PRIx64 " exception %d\n", a->pc,
                               a->exception, cpu->pc, cpu->exception);
    for (unsigned i = 0; i < g->nslots; i++)
        if (!g->slots[i].scratch)
            differs(s, g->slots[i].name, v, cpu, g->slots[i].offset, ir_slot_bytes(&g->slots[i]));
    for (const struct guest_reg *r = g->regs; r && r->name; r++)
        if (r->group != GUEST_REG_SHARED)
            differs(s, r->name, v, cpu, r->offset, r->bits / 8);
    for (unsigned i = 0; i < v->stores->len; i++) {
        const struct store *st = &g_array_index(v->stores, struct store, i);

        if (memcmp(st->after, st->host, st->n))
            g_string_append_printf(s, "  memory at host %p (%u bytes): interpreter %#" PRIx64 ", host code %#" PRIx64 "\n",
                                   (void *)st->host, st->n, field(st->after, 0, st->n), field(st->host, 0, st->n));
    }
    v->checked++;
    if (!s->len)
        return;
    {
        g_autofree char *ops = ir_print(ir);

        log_printf("verify: the region at %#" PRIx64 " ended differently:\n%s%s\n", pc, s->str, ops);
        warn_report("verify: host code and interpreter differ in the region at %#" PRIx64 "; the machine stops "
                    "(see the log)", pc);
        vm_request_stop(cpu->vcpu->vm, STOP_HOST_QUIT, 1);
        cpu->jit->verify_failed = true;
    }
}

/* Runs the region at cpu->pc, verified if it can be. The result is jit_run()'s; what host code raises goes on. */
uint64_t verify_run(struct cpu *cpu, struct region *r)
{
    struct jit_cpu *jc = cpu->jit;
    struct verify *v = jc->verify;
    sigjmp_buf out, *outer = cpu->loop_exit;
    volatile bool raised = false;
    volatile uint64_t left = JIT_LEFT_LOOP, pc = cpu->pc;

    if (!can_run_twice(r->ir) || !interpret(cpu, v, r->ir)) {
        v->skipped++;
        return jit_run(jc->av->jit, cpu, r->code);
    }
    cpu->loop_exit = &out;
    if (!sigsetjmp(out, 0))
        left = jit_run(jc->av->jit, cpu, r->code);
    else
        raised = true;
    cpu->loop_exit = outer;
    if (!raised && left >= JIT_EXIT_FIRST) {
        cpu->pc = cpu->pc_page + jit_exit(jc->av->jit, left)->target;
        left = JIT_LEFT_LOOKUP;
    }
    if (atomic_load(&cpu->exit_request) || jc->one_insn)
        v->skipped++;                   /* host code may have stopped at another poll, or begins again */
    else
        compare(cpu, v, r->ir, pc);
    if (raised)
        siglongjmp(*cpu->loop_exit, 1);
    return left;
}
