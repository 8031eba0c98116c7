/* The monitor's info commands: what QMP tells, laid out for people. */
#include <inttypes.h>
#include <string.h>
#include "control/hmp.h"
#include "rhea/base/options.h"
#include "rhea/block/block.h"
#include "rhea/control/version.h"
#include "rhea/net/net.h"
#include "rhea/vm/pci.h"
#include "rhea/vm/qom.h"

typedef struct json_object json;

static const char *text(json *o, const char *key, const char *def)
{
    return option_str(o, key, def);
}

static json *member(json *o, const char *key)
{
    json *v = NULL;

    return o && json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static int64_t number(json *o, const char *key)
{
    json *v = member(o, key);

    return v ? json_object_get_int64(v) : 0;
}

static bool truth(json *o, const char *key)
{
    json *v = member(o, key);

    return v && json_object_get_boolean(v);
}

/* Prints text that a subsystem made, and frees it. */
static void print_made(struct hmp *h, char *made, const char *without)
{
    hmp_printf(h, "%s", made ? made : without);
    g_free(made);
}

/* ---- one line each */

static void info_version(struct hmp *h, json *args)
{
    hmp_printf(h, COMPAT_VERSION " (Rhea " RHEA_VERSION ")\n");
}

static void info_status(struct hmp *h, json *args)
{
    bool running = vm_running(h->vm);

    hmp_printf(h, "VM status: %s", running ? "running" : "paused");
    if (!running && h->vm->state != RUN_PAUSED)
        hmp_printf(h, " (%s)", run_state_name(h->vm->state));
    hmp_printf(h, "\n");
}

static void info_name(struct hmp *h, json *args)
{
    if (h->vm->config.name)
        hmp_printf(h, "%s\n", h->vm->config.name);
}

static void info_uuid(struct hmp *h, json *args)
{
    json *o = NULL;

    if (hmp_qmp(h, "query-uuid", NULL, &o))
        hmp_printf(h, "%s\n", text(o, "UUID", ""));
    json_object_put(o);
}

static void info_kvm(struct hmp *h, json *args)
{
    json *o = NULL;

    if (hmp_qmp(h, "query-kvm", NULL, &o))
        hmp_printf(h, "kvm support: %s\n", truth(o, "enabled") ? "enabled" : truth(o, "present") ? "disabled"
                                                                                        : "not compiled");
    json_object_put(o);
}

static void info_balloon(struct hmp *h, json *args)
{
    json *o = NULL;

    if (hmp_qmp(h, "query-balloon", NULL, &o))
        hmp_printf(h, "balloon: actual=%" PRId64 "\n", number(o, "actual") >> 20);
    json_object_put(o);
}

/* ---- CPUs and memory */

static void info_cpus(struct hmp *h, json *args)
{
    json *list = NULL;

    if (!hmp_qmp(h, "query-cpus-fast", NULL, &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json *o = json_object_array_get_idx(list, i);

        hmp_printf(h, "%c CPU #%" PRId64 ": thread_id=%" PRId64 "%s\n", (int)i == *h->cpu ? '*' : ' ',
                   number(o, "cpu-index"), number(o, "thread-id"), h->vm->vcpus[i]->halted ? " (halted)" : "");
    }
    json_object_put(list);
}

struct on_cpu { char *(*show)(struct cpu *cpu, bool tlb); bool tlb; char *out; };

static void registers_on_cpu(struct vcpu *v, void *arg)
{
    ((struct on_cpu *)arg)->out = v->vm->guest->registers(v->cpu);
}

static void mmu_on_cpu(struct vcpu *v, void *arg)
{
    struct on_cpu *o = arg;

    o->out = v->vm->guest->mmu_dump(v->cpu, o->tlb);
}

static void info_registers(struct hmp *h, json *args)
{
    bool all = truth(args, "all");
    struct vcpu *one = hmp_cpu(h);

    for (unsigned i = 0; one && i < h->vm->nvcpus; i++) {
        struct on_cpu o = { 0 };

        if (!all && h->vm->vcpus[i] != one)
            continue;
        vcpu_run_on(h->vm->vcpus[i], registers_on_cpu, &o);
        hmp_printf(h, "%s\nCPU#%u\n", i && all ? "\n" : "", i);
        print_made(h, o.out, "");
    }
}

static void show_mmu(struct hmp *h, bool tlb)
{
    struct vcpu *v = hmp_cpu(h);
    struct on_cpu o = { .tlb = tlb };

    if (!v)
        return;
    if (!h->vm->guest->mmu_dump) {
        hmp_printf(h, "this guest's MMU cannot be shown\n");
        return;
    }
    vcpu_run_on(v, mmu_on_cpu, &o);
    print_made(h, o.out, "");
}

static void info_mem(struct hmp *h, json *args)
{
    show_mmu(h, false);
}

static void info_tlb(struct hmp *h, json *args)
{
    show_mmu(h, true);
}

static void info_mtree(struct hmp *h, json *args)
{
    print_made(h, mem_tree_print(h->vm, truth(args, "flat")), "");
}

static void info_memory_size(struct hmp *h, json *args)
{
    json *o = NULL;

    if (hmp_qmp(h, "query-memory-size-summary", NULL, &o))
        hmp_printf(h, "base memory: %" PRId64 "\nplugged memory: %" PRId64 "\n", number(o, "base-memory"),
                   number(o, "plugged-memory"));
    json_object_put(o);
}

static void info_jit(struct hmp *h, json *args)
{
    const struct accel *a = h->vm->accel;

    print_made(h, a && a->info ? a->info(h->vm) : NULL, "this machine does not run under the translator\n");
}

/* ---- devices */

static void info_pci(struct hmp *h, json *args)
{
    print_made(h, pci_info_text(h->vm), "PCI is not in this machine\n");
}

static void info_qtree(struct hmp *h, json *args)
{
    print_made(h, qtree_text(h->vm), "");
}

static void info_qom_tree(struct hmp *h, json *args)
{
    print_made(h, qom_tree_text(h->vm), "");
}

static void info_iothreads(struct hmp *h, json *args)
{
    json *list = NULL;

    if (!hmp_qmp(h, "query-iothreads", NULL, &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json *o = json_object_array_get_idx(list, i);

        hmp_printf(h, "%s:\n  thread_id=%" PRId64 "\n", text(o, "id", ""), number(o, "thread-id"));
    }
    json_object_put(list);
}

/* A device's saved state, by its own table: names and values. */
static void show_state(struct hmp *h, struct device *d)
{
    const char *base = (const char *)d;

    for (const struct state_field *f = d->cls->state; f && f->name; f++) {
        uint64_t v = 0;

        hmp_printf(h, "  %-14s", f->name);
        switch (f->type) {
        case ST_U8: case ST_BOOL: memcpy(&v, base + f->offset, 1); break;
        case ST_U16: memcpy(&v, base + f->offset, 2); break;
        case ST_U32: memcpy(&v, base + f->offset, 4); break;
        case ST_U64: memcpy(&v, base + f->offset, 8); break;
        case ST_BYTES:
            for (unsigned i = 0; i < f->count; i++)
                hmp_printf(h, "%s%02x", i && i % 32 == 0 ? "\n                " : i && i % 4 == 0 ? " " : "",
                           (uint8_t)base[f->offset + i]);
            hmp_printf(h, "\n");
            continue;
        default: hmp_printf(h, "...\n"); continue;
        }
        hmp_printf(h, "%#" PRIx64 "\n", v);
    }
}

static void info_pic(struct hmp *h, json *args)
{
    static const char *const controllers[] = { "isa-i8259", "ioapic", "apic", NULL };

    for (struct device *d = h->vm->devices; d; d = d->next) {
        if (!g_strv_contains(controllers, d->cls->name))
            continue;
        hmp_printf(h, "%s (%s):\n", d->cls->name, d->path);
        device_lock(d);
        show_state(h, d);
        device_unlock(d);
    }
}

static void info_irq(struct hmp *h, json *args)
{
    hmp_printf(h, "This build does not count interrupts; the guest does: /proc/interrupts.\n");
}

/* ---- block */

static void show_disk(struct hmp *h, json *o, bool verbose)
{
    json *in = member(o, "inserted"), *cache = member(in, "cache");
    const char *device = text(o, "device", ""), *qdev = text(o, "qdev", NULL);

    hmp_printf(h, "%s", *device ? device : qdev ? qdev : "");
    if (in && text(in, "node-name", NULL))
        hmp_printf(h, " (%s)", text(in, "node-name", ""));
    if (!in) {
        hmp_printf(h, ": [not inserted]\n");
    } else {
        hmp_printf(h, ": %s (%s%s%s)\n", text(in, "file", ""), text(in, "drv", ""), truth(in, "ro") ? ", read-only" : "",
                   truth(in, "encrypted") ? ", encrypted" : "");
    }
    if (qdev)
        hmp_printf(h, "    Attached to:      %s\n", qdev);
    if (truth(o, "removable"))
        hmp_printf(h, "    Removable device: %slocked, tray %s\n", truth(o, "locked") ? "" : "not ",
                   truth(o, "tray_open") ? "open" : "closed");
    if (cache)
        hmp_printf(h, "    Cache mode:       %s%s%s\n", truth(cache, "writeback") ? "writeback" : "writethrough",
                   truth(cache, "direct") ? ", direct" : "", truth(cache, "no-flush") ? ", ignore flushes" : "");
    if (in && text(in, "backing_file", NULL))
        hmp_printf(h, "    Backing file:     %s (chain depth: %" PRId64 ")\n", text(in, "backing_file", ""),
                   number(in, "backing_file_depth"));
    if (verbose && in && member(in, "image")) {
        json *image = member(in, "image");

        hmp_printf(h, "    Image:            %s, virtual size %" PRId64 " bytes, on disk %" PRId64 " bytes\n",
                   text(image, "format", ""), number(image, "virtual-size"), number(image, "actual-size"));
    }
}

static void show_node(struct hmp *h, json *o)
{
    hmp_printf(h, "%s: %s (%s%s)\n", text(o, "node-name", ""), text(o, "file", ""), text(o, "drv", ""),
               truth(o, "ro") ? ", read-only" : "");
}

static void info_block(struct hmp *h, json *args)
{
    bool nodes = truth(args, "nodes"), first = true;
    const char *device = text(args, "device", NULL);
    json *list = nodes ? block_query_nodes(h->vm, true) : block_query(h->vm);

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json *o = json_object_array_get_idx(list, i);

        if (device && strcmp(text(o, "device", ""), device) && strcmp(text(o, "qdev", ""), device) &&
            strcmp(text(o, "node-name", ""), device))
            continue;
        if (!first)
            hmp_printf(h, "\n");
        first = false;
        if (nodes)
            show_node(h, o);
        else
            show_disk(h, o, truth(args, "verbose"));
    }
    json_object_put(list);
}

static void info_blockstats(struct hmp *h, json *args)
{
    static const char *const counters[] = { "rd_bytes", "wr_bytes", "rd_operations", "wr_operations",
                                            "flush_operations", "wr_total_time_ns", "rd_total_time_ns",
                                            "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns" };
    json *list = block_query_stats(h->vm, false);

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json *o = json_object_array_get_idx(list, i), *stats = member(o, "stats");
        const char *device = text(o, "device", "");

        hmp_printf(h, "%s:", *device ? device : text(o, "qdev", text(o, "node-name", "")));
        for (unsigned k = 0; k < G_N_ELEMENTS(counters); k++)
            if (member(stats, counters[k]))
                hmp_printf(h, " %s=%" PRId64, counters[k], number(stats, counters[k]));
        hmp_printf(h, "\n");
    }
    json_object_put(list);
}

/* ---- network, character devices */

static void info_network(struct hmp *h, json *args)
{
    print_made(h, net_info(h->vm), "");
}

static void info_usernet(struct hmp *h, json *args)
{
    print_made(h, net_usernet_info(h->vm), "");
}

static void info_chardev(struct hmp *h, json *args)
{
    json *list = NULL;

    if (!hmp_qmp(h, "query-chardev", NULL, &list))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json *o = json_object_array_get_idx(list, i);

        hmp_printf(h, "%s: filename=%s\n", text(o, "label", ""), text(o, "filename", ""));
    }
    json_object_put(list);
}

static void info_history(struct hmp *h, json *args)
{
    hmp_printf(h, "The history is that of a terminal's session.\n");
}

const struct hmp_command hmp_info_commands[] = {
    { "balloon", "", NULL, "memory the balloon leaves the guest", info_balloon },
    { "block", "nodes:-n verbose:-v device:s?", "[-n] [-v] [DEVICE]", "disks and their images; -n: block nodes",
      info_block },
    { "block-jobs", "", NULL, "jobs on disks", hmp_info_block_jobs },
    { "blockstats", "", NULL, "counts of each disk's requests", info_blockstats },
    { "chardev", "", NULL, "character devices", info_chardev },
    { "cpus|cpu", "", NULL, "CPUs and their threads", info_cpus },
    { "history", "", NULL, "lines typed", info_history },
    { "iothreads", "", NULL, "I/O threads", info_iothreads },
    { "irq", "", NULL, "interrupts counted (not in this build yet)", info_irq },
    { "jit", "", NULL, "what the translator did", info_jit },
    { "kvm", "", NULL, "is KVM used", info_kvm },
    { "mem", "", NULL, "virtual memory in use, by access rights", info_mem },
    { "memory_size_summary", "", NULL, "RAM", info_memory_size },
    { "mtree", "flat:-f", "[-f]", "physical address space; -f: as it is looked up", info_mtree },
    { "name", "", NULL, "the machine's name", info_name },
    { "network", "", NULL, "network cards and back ends", info_network },
    { "pci", "", NULL, "PCI devices", info_pci },
    { "pic", "", NULL, "interrupt controllers", info_pic },
    { "qom-tree", "", NULL, "the object tree", info_qom_tree },
    { "qtree", "", NULL, "buses and devices", info_qtree },
    { "registers", "all:-a", "[-a]", "registers of the CPU; -a: of all", info_registers },
    { "snapshots", "", NULL, "internal snapshots of the disks", hmp_info_snapshots },
    { "status", "", NULL, "does the machine run", info_status },
    { "tlb", "", NULL, "virtual to physical mappings", info_tlb },
    { "usernet", "", NULL, "connections of the user network", info_usernet },
    { "uuid", "", NULL, "the machine's UUID", info_uuid },
    { "version", "", NULL, "version", info_version },
    { 0 }
};
