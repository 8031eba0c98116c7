/* Flattened device trees (Devicetree Specification 0.4), built on libfdt: what the boards without a PC's firmware tell
 * their guests. Calls may follow one another unchecked: the first failure sticks and dt_finish() reports it. */
#ifndef RHEA_BOARD_FDT_H
#define RHEA_BOARD_FDT_H

#include <glib.h>
#include "rhea/vm/pci_host.h"
#include "rhea/vm/vm.h"

struct dt;

struct dt *dt_new(void);
/* -dtb: a tree from a file, to which the board adds memory and /chosen. */
struct dt *dt_load(const char *path, struct error *err);
void dt_free(struct dt *dt);
/* Packs the tree; a copy of `*len` bytes that the caller frees, NULL with err. */
void *dt_finish(struct dt *dt, size_t *len, struct error *err);

/* Makes the node if it is not there (its parents must be), before its siblings. */
void dt_node(struct dt *dt, const char *path);
bool dt_has(struct dt *dt, const char *path);
void dt_cells(struct dt *dt, const char *path, const char *name, const uint32_t *cells, unsigned n);
#define DT_CELLS(dt, path, name, ...)                                                                          \
    dt_cells(dt, path, name, (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4)
/* Two cells each: addresses and sizes where #address-cells and #size-cells are 2. */
#define DT_64(v) (uint32_t)((uint64_t)(v) >> 32), (uint32_t)(v)
void dt_u64(struct dt *dt, const char *path, const char *name, uint64_t v);
void dt_string(struct dt *dt, const char *path, const char *name, const char *s);
void dt_strings(struct dt *dt, const char *path, const char *name, const char *first, ...) G_GNUC_NULL_TERMINATED;
void dt_bytes(struct dt *dt, const char *path, const char *name, const void *data, size_t len);
void dt_flag(struct dt *dt, const char *path, const char *name);
/* The node's phandle: given out when first asked. */
uint32_t dt_phandle(struct dt *dt, const char *path);
#define DT_PATH(var, ...) g_autofree char *var = g_strdup_printf(__VA_ARGS__)

/* ---- what machines have in common */

void dt_memory(struct dt *dt, uint64_t base, uint64_t size);
/* /cpus/cpu-map over nodes named by path_of(i) for each vCPU of the machine; sockets, clusters (dies), cores, threads. */
void dt_cpu_map(struct dt *dt, struct vm *vm, char *(*path_of)(struct vm *vm, unsigned i));

struct dt_chosen {
    const char *stdout_path;    /* node of the console, or NULL */
    uint64_t initrd, initrd_size;       /* size 0: none */
    bool seeds;                 /* rng-seed and kaslr-seed */
};
void dt_chosen(struct dt *dt, struct vm *vm, const struct dt_chosen *c);
/* rng-seed and kaslr-seed anew, in a finished tree: at each reset. */
void dt_reseed(void *finished);

/* An interrupt controller's phandle and the cells of one interrupt: type n flags (Arm GIC), n flags (RISC-V) ... */
struct dt_irq { uint32_t parent, cells[3]; unsigned n; };
void dt_interrupt(struct dt *dt, const char *path, const struct dt_irq *irq);
void dt_virtio_mmio(struct dt *dt, uint64_t base, uint64_t size, const struct dt_irq *irq, bool coherent);

/* A generic ECAM host (binding pci/host-generic-pci). */
struct dt_pcie {
    const char *path;           /* of the node; NULL: /pcie@ADDRESS */
    const struct gpex_windows *windows;
    struct dt_irq irq[4];       /* of line 0 to 3 */
    unsigned parent_address_cells;      /* #address-cells of the interrupt controller */
    uint32_t msi_parent;        /* phandle, 0: none. With msi_map: ids of requesters too (ITS) */
    bool msi_map;
};
void dt_pcie(struct dt *dt, const struct dt_pcie *p);

#endif
