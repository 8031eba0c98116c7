/* -accel jit (alias tcg) and -accel interp. */
#include <glib.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "accel.h"
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/jit/codegen.h"

/* What is as it is: a wish for the contrary is refused. */
static bool accel_fixed(struct json_object *opts, struct error *err)
{
    bool split = true;

    if (!option_bool(opts, "split-wx", true, &split, err))
        return false;
    if (!split)
        return error_set(err, ERR_GENERIC, "split-wx=off: translated code is never writable and executable at once",
                         "leave it out");
    if (strcmp(option_str(opts, "kernel-irqchip", "off"), "off"))
        return error_set(err, ERR_GENERIC, "kernel-irqchip is for KVM, which this build has not", "leave it out");
    return true;
}

static bool accel_start(struct vm *vm, struct json_object *opts, bool interp, struct error *err)
{
    struct accel_vm *av = g_new0(struct accel_vm, 1);
    struct jit_options jo = { .guest = vm->guest, .interp = interp };
    const char *thread = opts ? option_str(opts, "thread", NULL) : NULL;
    int64_t chaos = 0;
    bool verify = false, tier2 = false;

    vm->accel_data = av;
    av->vm = vm;
    av->interp = interp;
    pthread_mutex_init(&av->code_lock, NULL);
    sync_init(av);
    if (thread && strcmp(thread, "single") && strcmp(thread, "multi"))
        return error_setf(err, ERR_GENERIC, "thread is single or multi", "invalid value '%s' for thread", thread);
    av->single = thread && !strcmp(thread, "single");
    if (opts && (!option_bool(opts, "perfmap", false, &jo.perfmap, err) ||
                 !option_bool(opts, "verify", false, &verify, err) ||
                 !option_bool(opts, "tier2", false, &tier2, err) || !option_int(opts, "chaos", 0, &chaos, err)))
        return false;
    if (opts && !accel_fixed(opts, err))
        return false;
    if (opts && !option_bool(opts, "one-insn-per-tb", false, &av->one_insn_per_region, err))
        return false;
    if (verify && (interp || vm->config.cpus > 1))
        return error_set(err, ERR_GENERIC, "verify=on is for -accel jit with one CPU", "leave -smp out");
    av->verify = jo.keep_ir = verify;
    if (opts) {
        int64_t mib = 0;

        if (!option_int(opts, "tb-size", 0, &mib, err))
            return false;
        if (mib < 0 || mib > 1024)
            return error_set(err, ERR_GENERIC, "tb-size is out of range", "it is in MiB, up to 1024");
        jo.cache_size = (uint64_t)mib << 20;
    }
    av->chaos = jo.chaos = chaos;
    av->nochain = log_enabled(LOG_NOCHAIN) || verify;
    jo.tier2 = tier2 && !interp && !av->nochain && !av->one_insn_per_region;
    av->jit = jit_new(&jo, err);
    if (av->jit && jo.tier2)
        av->hot = hot_new(av);
    return av->jit != NULL;
}

static bool jit_init(struct vm *vm, struct json_object *opts, struct error *err)
{
    return accel_start(vm, opts, false, err);
}

static bool interp_init(struct vm *vm, struct json_object *opts, struct error *err)
{
    return accel_start(vm, opts, true, err);
}

static void accel_exit(struct vm *vm)
{
    struct accel_vm *av = accel_of(vm);

    if (!av)
        return;
    hot_free(av->hot);
    code_tables_free(av);
    jit_free(av->jit);
    pthread_mutex_destroy(&av->code_lock);
    sync_free(av);
    g_free(av);
    vm->accel_data = NULL;
}

static bool accel_vcpu_init(struct vcpu *v, struct error *err)
{
    struct jit_cpu *jc = g_new0(struct jit_cpu, 1);
    pthread_condattr_t monotonic;

    jc->av = accel_of(v->vm);
    jc->vcpu = v;
    v->cpu->jit = jc;
    jc->quiet = true;
    jc->ir = ir_new();
    pthread_mutex_init(&jc->sleep_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&jc->sleep_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    v->cpu->jit = jc;
    tlb_init(jc);
    jump_init(jc);
    if (jc->av->verify)
        verify_new(jc);
    if (jc->av->chaos)
        jc->chaos = jc->av->chaos * UINT64_C(0x9e3779b97f4a7c15) + v->index + 1;
    if (!v->cpu->fp_control)
        v->cpu->fp_control = 0x1f80;
    return true;
}

static void accel_vcpu_exit(struct vcpu *v)
{
    struct jit_cpu *jc = v->cpu->jit;

    if (!jc)
        return;
    work_run(v);                /* what was queued after its thread's last look */
    verify_free(jc);
    tlb_free(jc);
    jump_free(jc);
    v->cpu->jit = NULL;
    ir_free(jc->ir);
    pthread_mutex_destroy(&jc->sleep_lock);
    pthread_cond_destroy(&jc->sleep_cond);
    g_free(jc);
}

static void flush_tlb_work(struct vcpu *v, void *arg) { cpu_tlb_flush(v->cpu, ~0u); }

static void accel_memory_changed(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpus[i]->cpu && vm->vcpus[i]->cpu->jit)
            vcpu_queue(vm->vcpus[i], flush_tlb_work, NULL);
}

/* A device may run on a vCPU's thread, with locks held: that vCPU too goes on to its next poll. */
static void accel_ram_written(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len)
{
    if (!accel_of(vm))
        return;
    code_written(accel_of(vm), NULL, rb, offset, len);
    for (uint64_t at = offset & PAGE_MASK; at < offset + len; at += CPU_PAGE_SIZE)
        if (__atomic_load_n(&rb->page_flags[at >> CPU_PAGE_BITS], __ATOMIC_RELAXED) & PAGE_WATCHED)
            watch_written(accel_of(vm), rb, at);
}

static void accel_relax(struct vcpu *v)
{
    if (accel_of(v->vm)->single)
        baton_offer(v->cpu->jit);
}

static void info_tier2(struct accel_vm *av, const struct jit_hot_stats *st, GString *s)
{
    uint64_t samples = 0, hot = 0;

    for (unsigned i = 0; i < av->vm->nvcpus; i++) {
        samples += av->vm->vcpus[i]->cpu->jit->samples;
        hot += av->vm->vcpus[i]->cpu->jit->samples_hot;
    }
    g_string_append_printf(s, "tier 2:              %" PRIu64 " regions of %.1f instructions, %" PRIu64 " calls inlined, %.1f ms "
                           "in background\n", st->made, st->made ? (double)st->insns / st->made : 0, st->inlined, st->ns / 1e6);
    g_string_append_printf(s, "                     not: %" PRIu64 " nothing to win, %" PRIu64 " refused, %" PRIu64 " stale, %"
                           PRIu64 " dropped from a full queue\n", st->useless, st->refused, st->stale, hot_dropped(av->hot));
    g_string_append_printf(s, "                     %" PRIu64 " of %" PRIu64 " samples in its code\n", hot, samples);
}

static char *accel_info(struct vm *vm)
{
    struct accel_vm *av = accel_of(vm);
    GString *s = g_string_new(NULL);
    struct jit_stats st;

    jit_get_stats(av->jit, &st);
    g_string_append_printf(s, "host:                %s\n", codegen_host_features());
    g_string_append_printf(s, "regions:             %" PRIu64 " (%" PRIu64 " made, %" PRIu64 " invalidated, %" PRIu64
                           " retries)\n", st.regions, st.regions_total, st.invalidated, st.retries);
    g_string_append_printf(s, "cache:               %" PRIu64 " of %" PRIu64 " KiB, %" PRIu64 " flushes\n",
                           st.host_bytes >> 10, st.cache_size >> 10, st.flushes);
    if (st.regions_total)
        g_string_append_printf(s, "average region:      %.1f instructions, %.1f guest bytes, %.1f ops, %.1f host bytes\n",
                               (double)st.guest_insns / st.regions_total, (double)st.guest_bytes / st.regions_total,
                               (double)st.ops / st.regions_total, (double)st.made_bytes / st.regions_total);
    g_string_append_printf(s, "translating:         %.1f ms\nlinks:               %" PRIu64 "\n",
                           st.translate_ns / 1e6, st.links);
    if (av->hot)
        info_tier2(av, &st.hot, s);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        const struct jit_cpu *jc = vm->vcpus[i]->cpu->jit;

        g_string_append_printf(s, "cpu %u: exits to loop %" PRIu64 ", jump cache misses %" PRIu64 ", unlinked exits %"
                               PRIu64 ", TLB fills %" PRIu64 ", TLB flushes %" PRIu64 ", single steps %" PRIu64
                               ", waits for stores %" PRIu64 ", sleeps %" PRIu64 "\n", i, jc->left[0], jc->left[1],
                               jc->left[2], jc->tlb_fills, jc->tlb_flushes, jc->singles, jc->settles, jc->sleeps);
        if (jc->verify) {
            uint64_t checked, skipped;

            verify_counts(jc, &checked, &skipped);
            g_string_append_printf(s, "       verified %" PRIu64 ", not verifiable %" PRIu64 "\n", checked, skipped);
        }
    }
    return g_string_free(s, false);
}

#define COMMON                                                                                                \
    .exit = accel_exit, .vcpu_init = accel_vcpu_init, .vcpu_exit = accel_vcpu_exit,                           \
    .vcpu_loop = accel_vcpu_loop, .kick = accel_kick, .memory_changed = accel_memory_changed,                 \
    .ram_written = accel_ram_written, .run_on = accel_run_on, .ack = accel_ack, .exclusive = accel_exclusive, \
    .relax = accel_relax, .info = accel_info

ACCEL = { .name = "jit", .alias = "tcg", .summary = "translates guest code into host code", .init = jit_init, COMMON };
ACCEL = { .name = "interp", .summary = "interprets guest code: slow, for comparison", .init = interp_init, COMMON };
