/* See fdt.h. */
#include <libfdt.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>
#include "fdt.h"

enum { FIRST_SIZE = 64 << 10, LIMIT = 16 << 20, SEED_BYTES = 32 };

struct dt {
    void *blob;
    int error;                  /* libfdt's, negative: the first that happened */
    char *where;                /* path of it */
    uint32_t next_phandle;
};

/* ---- life */

struct dt *dt_new(void)
{
    struct dt *dt = g_new0(struct dt, 1);

    dt->blob = g_malloc0(FIRST_SIZE);
    dt->error = fdt_create_empty_tree(dt->blob, FIRST_SIZE);
    dt->next_phandle = 0x8000;
    return dt;
}

struct dt *dt_load(const char *path, struct error *err)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) e = NULL;
    struct dt *dt;
    size_t len;

    if (!g_file_get_contents(path, &data, &len, &e)) {
        error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot read the device tree: %s", e->message);
        return NULL;
    }
    if (len < sizeof(struct fdt_header) || len > LIMIT || fdt_check_full(data, len)) {
        error_setf(err, ERR_GENERIC, "dtc -I dtb FILE says what is wrong with it", "%s is no flattened device tree", path);
        return NULL;
    }
    dt = g_new0(struct dt, 1);
    dt->blob = g_malloc0(len + FIRST_SIZE);
    dt->error = fdt_open_into(data, dt->blob, (int)(len + FIRST_SIZE));
    dt->next_phandle = MAX(fdt_get_max_phandle(data) + 1, 0x8000);
    return dt;
}

void dt_free(struct dt *dt)
{
    if (!dt)
        return;
    g_free(dt->blob);
    g_free(dt->where);
    g_free(dt);
}

void *dt_finish(struct dt *dt, size_t *len, struct error *err)
{
    if (!dt->error)
        dt->error = fdt_pack(dt->blob);
    if (dt->error) {
        error_setf(err, ERR_GENERIC, NULL, "cannot make the device tree: %s at %s", fdt_strerror(dt->error), dt->where ? dt->where : "/");
        return NULL;
    }
    *len = fdt_totalsize(dt->blob);
    return g_memdup2(dt->blob, *len);
}

/* ---- nodes and properties */

static void fail(struct dt *dt, const char *path, int error)
{
    if (dt->error)
        return;
    dt->error = error;
    dt->where = g_strdup(path);
}

/* There was no room: true when there is more now. */
static bool grow(struct dt *dt)
{
    int size = (int)fdt_totalsize(dt->blob) * 2;
    void *bigger;

    if (size > LIMIT)
        return false;
    bigger = g_malloc0((size_t)size);
    if (fdt_open_into(dt->blob, bigger, size)) {
        g_free(bigger);
        return false;
    }
    g_free(dt->blob);
    dt->blob = bigger;
    return true;
}

bool dt_has(struct dt *dt, const char *path)
{
    return !dt->error && fdt_path_offset(dt->blob, path) >= 0;
}

void dt_node(struct dt *dt, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    g_autofree char *parent = name == path + 1 ? g_strdup("/") : g_strndup(path, (size_t)(name - path) - 1);
    int at, r;

    if (dt->error || dt_has(dt, path))
        return;
    do {
        at = fdt_path_offset(dt->blob, parent);
        r = at < 0 ? at : fdt_add_subnode(dt->blob, at, name);
    } while (r == -FDT_ERR_NOSPACE && grow(dt));
    if (r < 0)
        fail(dt, path, r);
}

void dt_bytes(struct dt *dt, const char *path, const char *name, const void *data, size_t len)
{
    int at, r;

    if (dt->error)
        return;
    if (len > LIMIT) {
        fail(dt, path, -FDT_ERR_NOSPACE);
        return;
    }
    do {
        at = fdt_path_offset(dt->blob, path);
        r = at < 0 ? at : fdt_setprop(dt->blob, at, name, data, (int)len);
    } while (r == -FDT_ERR_NOSPACE && grow(dt));
    if (r < 0)
        fail(dt, path, r);
}

void dt_cells(struct dt *dt, const char *path, const char *name, const uint32_t *cells, unsigned n)
{
    g_autofree fdt32_t *be = g_new(fdt32_t, n + 1);

    for (unsigned i = 0; i < n; i++)
        be[i] = cpu_to_fdt32(cells[i]);
    dt_bytes(dt, path, name, be, n * 4);
}

void dt_u64(struct dt *dt, const char *path, const char *name, uint64_t v)
{
    DT_CELLS(dt, path, name, DT_64(v));
}

void dt_string(struct dt *dt, const char *path, const char *name, const char *s)
{
    dt_bytes(dt, path, name, s, strlen(s) + 1);
}

void dt_strings(struct dt *dt, const char *path, const char *name, const char *first, ...)
{
    g_autoptr(GString) all = g_string_new(NULL);
    va_list ap;

    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *))
        g_string_append_len(all, s, (gssize)strlen(s) + 1);
    va_end(ap);
    dt_bytes(dt, path, name, all->str, all->len);
}

void dt_flag(struct dt *dt, const char *path, const char *name)
{
    dt_bytes(dt, path, name, "", 0);
}

uint32_t dt_phandle(struct dt *dt, const char *path)
{
    uint32_t h;
    int at;

    if (dt->error)
        return 0;
    at = fdt_path_offset(dt->blob, path);
    if (at < 0) {
        fail(dt, path, at);
        return 0;
    }
    h = fdt_get_phandle(dt->blob, at);
    if (!h) {
        h = dt->next_phandle++;
        DT_CELLS(dt, path, "phandle", h);
    }
    return h;
}

/* ---- what machines have in common */

void dt_memory(struct dt *dt, uint64_t base, uint64_t size)
{
    DT_PATH(path, "/memory@%" G_GINT64_MODIFIER "x", base);

    dt_node(dt, path);
    dt_string(dt, path, "device_type", "memory");
    DT_CELLS(dt, path, "reg", DT_64(base), DT_64(size));
}

/* One level of the map: makes the node below `path` (which it replaces). */
static void map_level(struct dt *dt, GString *path, const char *kind, int n)
{
    g_string_append_printf(path, "/%s%d", kind, n);
    dt_node(dt, path->str);
}

/* dt_node() puts a node before its siblings, so the last comes first. */
void dt_cpu_map(struct dt *dt, struct vm *vm, char *(*path_of)(struct vm *vm, unsigned i))
{
    dt_node(dt, "/cpus/cpu-map");
    for (unsigned i = vm->nvcpus; i-- > 0;) {
        struct vcpu *v = vm->vcpus[i];
        g_autofree char *cpu = path_of(vm, i);
        g_autoptr(GString) path = g_string_new("/cpus/cpu-map");

        map_level(dt, path, "socket", v->socket);
        map_level(dt, path, "cluster", v->die);
        map_level(dt, path, "core", v->core);
        if (vm->config.threads > 1)
            map_level(dt, path, "thread", v->thread);
        DT_CELLS(dt, path->str, "cpu", dt_phandle(dt, cpu));
    }
}

void dt_chosen(struct dt *dt, struct vm *vm, const struct dt_chosen *c)
{
    static const uint8_t none[SEED_BYTES];

    dt_node(dt, "/chosen");
    if (c->stdout_path)
        dt_string(dt, "/chosen", "stdout-path", c->stdout_path);
    if (vm->config.append)
        dt_string(dt, "/chosen", "bootargs", vm->config.append);
    if (c->initrd_size) {
        dt_u64(dt, "/chosen", "linux,initrd-start", c->initrd);
        dt_u64(dt, "/chosen", "linux,initrd-end", c->initrd + c->initrd_size);
    }
    if (c->seeds) {
        dt_bytes(dt, "/chosen", "rng-seed", none, SEED_BYTES);
        dt_bytes(dt, "/chosen", "kaslr-seed", none, 8);
    }
}

static void reseed(void *blob, int at, const char *name, int len)
{
    uint8_t bytes[SEED_BYTES];
    int have;

    if (fdt_getprop(blob, at, name, &have) && have == len && getrandom(bytes, (size_t)len, 0) == len)
        fdt_setprop_inplace(blob, at, name, bytes, len);
}

void dt_reseed(void *blob)
{
    int at = fdt_path_offset(blob, "/chosen");

    if (at < 0)
        return;
    reseed(blob, at, "rng-seed", SEED_BYTES);
    reseed(blob, at, "kaslr-seed", 8);
}

void dt_interrupt(struct dt *dt, const char *path, const struct dt_irq *irq)
{
    DT_CELLS(dt, path, "interrupt-parent", irq->parent);
    dt_cells(dt, path, "interrupts", irq->cells, irq->n);
}

void dt_virtio_mmio(struct dt *dt, uint64_t base, uint64_t size, const struct dt_irq *irq, bool coherent)
{
    DT_PATH(path, "/virtio_mmio@%" G_GINT64_MODIFIER "x", base);

    dt_node(dt, path);
    dt_string(dt, path, "compatible", "virtio,mmio");
    DT_CELLS(dt, path, "reg", DT_64(base), DT_64(size));
    dt_interrupt(dt, path, irq);
    if (coherent)
        dt_flag(dt, path, "dma-coherent");
}

/* IEEE 1275 PCI binding: phys.hi of a range */
enum { RANGE_IO = 0x01000000, RANGE_MEM32 = 0x02000000, RANGE_MEM64 = 0x03000000 };

static void pcie_ranges(struct dt *dt, const char *path, const struct gpex_windows *w)
{
    uint32_t cells[21] = {
        RANGE_IO, 0, 0, DT_64(w->pio_base), DT_64(w->pio_size),
        RANGE_MEM32, DT_64(w->mmio_base), DT_64(w->mmio_base), DT_64(w->mmio_size),
        RANGE_MEM64, DT_64(w->high_base), DT_64(w->high_base), DT_64(w->high_size),
    };

    dt_cells(dt, path, "ranges", cells, w->high_size ? 21 : 14);
}

/* The four pins of four slots, of which the others are copies: entries of unit address, pin, parent, its address and its
 * interrupt. */
static void pcie_interrupt_map(struct dt *dt, const char *path, const struct dt_pcie *p)
{
    g_autoptr(GArray) map = g_array_new(FALSE, FALSE, 4);
    const uint32_t zero = 0;

    for (unsigned slot = 0; slot < 4; slot++) {
        for (uint32_t pin = 1; pin <= 4; pin++) {
            const struct dt_irq *irq = &p->irq[gpex_route(slot, pin - 1)];
            const uint32_t child[] = { slot << 11, 0, 0, pin, irq->parent };

            g_array_append_vals(map, child, 5);
            for (unsigned i = 0; i < p->parent_address_cells; i++)
                g_array_append_vals(map, &zero, 1);
            g_array_append_vals(map, irq->cells, irq->n);
        }
    }
    dt_cells(dt, path, "interrupt-map", (const uint32_t *)map->data, map->len);
    DT_CELLS(dt, path, "interrupt-map-mask", 3 << 11, 0, 0, 7);
}

void dt_pcie(struct dt *dt, const struct dt_pcie *p)
{
    const struct gpex_windows *w = p->windows;
    DT_PATH(own, "/pcie@%" G_GINT64_MODIFIER "x", w->mmio_base);
    const char *path = p->path ? p->path : own;

    dt_node(dt, path);
    dt_string(dt, path, "compatible", "pci-host-ecam-generic");
    dt_string(dt, path, "device_type", "pci");
    DT_CELLS(dt, path, "#address-cells", 3);
    DT_CELLS(dt, path, "#size-cells", 2);
    DT_CELLS(dt, path, "#interrupt-cells", 1);
    DT_CELLS(dt, path, "linux,pci-domain", 0);
    DT_CELLS(dt, path, "bus-range", 0, (uint32_t)(w->ecam_size >> 20) - 1);
    dt_flag(dt, path, "dma-coherent");
    DT_CELLS(dt, path, "reg", DT_64(w->ecam_base), DT_64(w->ecam_size));
    pcie_ranges(dt, path, w);
    pcie_interrupt_map(dt, path, p);
    if (p->msi_map)
        DT_CELLS(dt, path, "msi-map", 0, p->msi_parent, 0, 0x10000);
    else if (p->msi_parent)
        DT_CELLS(dt, path, "msi-parent", p->msi_parent);
}
