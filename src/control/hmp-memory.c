/* The monitor's looks at guest memory: x, xp, sum, print. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "control/hmp.h"
#include "rhea/base/options.h"

/* ---- reading as a CPU does: on its thread, page by page, without a trace in its state */

struct virt_read { uint64_t addr; uint8_t *buf; uint64_t len; bool ok; };

static void read_on_cpu(struct vcpu *v, void *arg)
{
    struct virt_read *r = arg;
    const struct guest *g = v->vm->guest;
    unsigned mmu = g->mmu_index(v->cpu, false);

    while (r->ok && r->len) {
        uint64_t n = MIN(r->len, CPU_PAGE_SIZE - (r->addr & (CPU_PAGE_SIZE - 1)));
        struct mmu_result res;

        r->ok = g->translate(v->cpu, r->addr, ACCESS_READ, mmu, true, &res) &&
                as_read(&v->vm->memory, res.phys, r->buf, n, MEM_ATTRS_NONE) == MEM_OK;
        r->addr += n;
        r->buf += n;
        r->len -= n;
    }
}

bool guest_memory_read(struct vm *vm, struct vcpu *v, uint64_t addr, void *buf, uint64_t len)
{
    struct virt_read r = { addr, buf, len, true };

    if (!v)
        return as_read(&vm->memory, addr, buf, len, MEM_ATTRS_NONE) == MEM_OK;
    vcpu_run_on(v, read_on_cpu, &r);
    return r.ok;
}

/* ---- formats: [COUNT][x|d|u|o|c|i][b|h|w|g] */

struct format { unsigned count; char kind; unsigned size; };

static bool parse_format(const char *text, struct format *f, struct error *err)
{
    char *end;

    *f = (struct format){ 1, 'x', 0 };
    if (text && isdigit((unsigned char)*text)) {
        unsigned long n = strtoul(text, &end, 10);

        if (!n || n > 65536)
            return error_set(err, ERR_GENERIC, "the count must be from 1 to 65536", NULL);
        f->count = n;
        text = end;
    }
    for (; text && *text; text++) {
        static const char sizes[] = "bhwg";
        const char *s = strchr(sizes, *text);

        if (s)
            f->size = 1u << (s - sizes);
        else if (strchr("xduoci", *text))
            f->kind = *text;
        else
            return error_setf(err, ERR_GENERIC, "a format is [COUNT][x|d|u|o|c|i][b|h|w|g], as in x/4xg $rsp",
                              "'%c' is no format", *text);
    }
    if (!f->size)
        f->size = f->kind == 'c' ? 1 : 4;
    return true;
}

static void print_value(struct hmp *h, const struct format *f, uint64_t v)
{
    int64_t sign = (int64_t)(v << (64 - f->size * 8)) >> (64 - f->size * 8);

    switch (f->kind) {
    case 'd': hmp_printf(h, "%" PRId64, sign); break;
    case 'u': hmp_printf(h, "%" PRIu64, v); break;
    case 'o': hmp_printf(h, "0%" PRIo64, v); break;
    case 'c':
        if (isprint((int)(v & 0xff)) && v < 0x80)
            hmp_printf(h, "'%c'", (char)v);
        else
            hmp_printf(h, "'\\x%02" PRIx64 "'", v & 0xff);
        break;
    default: hmp_printf(h, "0x%0*" PRIx64, (int)f->size * 2, v);
    }
}

static void dump_values(struct hmp *h, struct vcpu *v, uint64_t addr, const struct format *f)
{
    unsigned per_line = f->kind == 'c' ? 8 : MAX(1, 16 / f->size);

    for (unsigned i = 0; i < f->count; i++, addr += f->size) {
        uint64_t value = 0;

        if (i % per_line == 0)
            hmp_printf(h, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
        if (!guest_memory_read(h->vm, v, addr, &value, f->size)) {
            hmp_printf(h, " Cannot access memory\n");
            return;
        }
        hmp_printf(h, " ");
        print_value(h, f, value);
    }
    hmp_printf(h, "\n");
}

/* How long the instruction at pc is, by the guest's own decoder; it wants the bytes at their place in pages. */
static unsigned instruction_length(const struct guest *g, const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    g_autofree uint8_t *pages = g_malloc0(2 * CPU_PAGE_SIZE);
    g_autofree void *insn = g_malloc0(g->insn_size);
    struct code_fetch f = { .first_pc = pc, .page = { pages, pages + CPU_PAGE_SIZE },
                            .page_va = pc & ~(uint64_t)(CPU_PAGE_SIZE - 1) };
    struct insn_info info = { 0 };

    memcpy(pages + (pc & (CPU_PAGE_SIZE - 1)), code, n);
    return g->decode(&f, pc, mode, insn, &info) && info.len && info.len <= n ? info.len : 1;
}

static void dump_instructions(struct hmp *h, struct vcpu *v, uint64_t addr, unsigned count)
{
    const struct guest *g = h->vm->guest;
    struct vcpu *cpu = v ? v : hmp_cpu(h);

    for (unsigned i = 0; cpu && i < count; i++) {
        uint64_t mode = g->mode_bits(cpu->cpu);
        uint8_t code[16];
        size_t n = sizeof(code), len;
        g_autofree char *text = NULL;
        char bytes[3 * sizeof(code) + 1] = "";

        while (n && !guest_memory_read(h->vm, v, addr, code, n))
            n--;                        /* the last page may end inside */
        if (!n) {
            hmp_printf(h, "0x%016" PRIx64 ": Cannot access memory\n", addr);
            return;
        }
        len = instruction_length(g, code, n, addr, mode);
        for (size_t k = 0; k < len; k++)
            snprintf(bytes + 3 * k, sizeof(bytes) - 3 * k, "%02x ", code[k]);
        text = g->disassemble(code, len, addr, mode);
        hmp_printf(h, "0x%016" PRIx64 ":  %-30s %s\n", addr, bytes, text ? text : "");
        addr += len;
    }
}

static void dump(struct hmp *h, struct json_object *args, struct vcpu *v)
{
    struct error err = ERROR_INIT;
    struct format f;
    struct json_object *addr;

    json_object_object_get_ex(args, "addr", &addr);
    if (!parse_format(option_str(args, "fmt", NULL), &f, &err)) {
        hmp_error(h, &err);
        return;
    }
    if (f.kind == 'i')
        dump_instructions(h, v, json_object_get_int64(addr), f.count);
    else
        dump_values(h, v, json_object_get_int64(addr), &f);
}

static void hmp_x(struct hmp *h, struct json_object *args)
{
    struct vcpu *v = hmp_cpu(h);

    if (v)
        dump(h, args, v);
}

static void hmp_xp(struct hmp *h, struct json_object *args)
{
    dump(h, args, NULL);
}

static void hmp_print(struct hmp *h, struct json_object *args)
{
    struct error err = ERROR_INIT;
    struct format f;
    struct json_object *v;

    json_object_object_get_ex(args, "value", &v);
    if (!parse_format(option_str(args, "fmt", NULL), &f, &err)) {
        hmp_error(h, &err);
        return;
    }
    f.size = 8;
    if (f.kind == 'x')
        hmp_printf(h, "%#" PRIx64, (uint64_t)json_object_get_int64(v));
    else
        print_value(h, &f, json_object_get_int64(v));
    hmp_printf(h, "\n");
}

static void hmp_sum(struct hmp *h, struct json_object *args)
{
    struct json_object *start, *size;
    uint16_t sum = 0;

    json_object_object_get_ex(args, "start", &start);
    json_object_object_get_ex(args, "size", &size);
    uint64_t addr = json_object_get_int64(start), left = json_object_get_int64(size);

    if (left > 1u << 30) {
        hmp_printf(h, "Error: at most 1 GiB is summed\n");
        return;
    }
    while (left) {
        uint8_t buf[4096];
        size_t n = MIN(left, sizeof(buf));

        if (!guest_memory_read(h->vm, NULL, addr, buf, n)) {
            hmp_printf(h, "Error: Cannot access memory at 0x%" PRIx64 "\n", addr);
            return;
        }
        for (size_t i = 0; i < n; i++)          /* BSD algorithm */
            sum = (sum >> 1 | sum << 15) + buf[i];
        addr += n;
        left -= n;
    }
    hmp_printf(h, "%05d\n", sum);
}

const struct hmp_command hmp_memory_commands[] = {
    { "x", "fmt:/ addr:l", "/FORMAT ADDR", "show memory as the CPU sees it", hmp_x },
    { "xp", "fmt:/ addr:l", "/FORMAT ADDR", "show physical memory", hmp_xp },
    { "print|p", "fmt:/ value:l", "/FORMAT EXPRESSION", "compute", hmp_print },
    { "sum", "start:l size:l", NULL, "16-bit sum of physical memory", hmp_sum },
    { 0 }
};
