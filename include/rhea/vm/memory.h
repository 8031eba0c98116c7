/* Guest-physical memory: a tree of regions, flattened to a sorted table that readers use without locks.
 * Changes (rare: BAR moves, hotplug) rebuild the table and publish it by epoch; vCPUs drop their TLBs. */
#ifndef RHEA_VM_MEMORY_H
#define RHEA_VM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/base/error.h"

struct vm;
struct device;

struct mem_attrs { uint16_t requester; bool secure, user, unspecified; };       /* requester: PCI bus/devfn of DMA */
#define MEM_ATTRS_NONE ((struct mem_attrs){ .unspecified = true })

/* Device registers. opaque is the device. size is 1, 2, 4 or 8 within [min, max]; the core splits or widens other
 * accesses (a device that gets no access of its own widths: guest_errors, reads 0). value is in host order of a
 * little-endian bus unless big_endian. Callbacks run with the device's lock held unless `lockless`. */
struct mmio_ops {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
    uint8_t min, max;           /* sizes the callbacks take; 0: 1 and 8 */
    bool unaligned, big_endian, lockless;
};

/* Host memory that backs guest RAM or ROM. */
struct ram_block {
    struct vm *vm;
    char *id;                   /* "pc.ram": stable name, for migration */
    uint8_t *host;              /* page-aligned mapping */
    uint64_t size, guest_max;
    int fd;                     /* memfd or file, -1: anonymous */
    bool shared, readonly;
    /* one byte a page, set atomically: bit 0 dirty for migration, bit 1 for display, bit 2 holds translated code,
     * bit 3 a vCPU waits for a store to it (MONITOR) */
    uint8_t *page_flags;
    void *code;                 /* the translator's own table of pages with code */
};
enum { PAGE_DIRTY = 1, PAGE_DIRTY_DISPLAY = 2, PAGE_HAS_CODE = 4, PAGE_WATCHED = 8 };

enum mem_kind { MEMK_CONTAINER, MEMK_RAM, MEMK_ROM, MEMK_MMIO, MEMK_ALIAS };
struct mem_region {
    const char *name;
    enum mem_kind kind;
    struct device *owner;       /* whose lock guards MMIO */
    uint64_t size;              /* 0 stands for 2^64 */
    struct ram_block *ram; uint64_t ram_offset;
    const struct mmio_ops *ops; void *opaque;
    struct mem_region *alias; uint64_t alias_offset;
    /* place in the tree */
    struct mem_region *parent; uint64_t addr; int priority; bool enabled;
    struct mem_region *first_child, *next_sibling;
    struct vm *vm;
};

void mem_region_init_container(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name, uint64_t size);
void mem_region_init_mmio(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name, uint64_t size,
                          const struct mmio_ops *ops, void *opaque);
void mem_region_init_ram(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                         struct ram_block *ram, uint64_t offset, uint64_t size);
void mem_region_init_rom(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                         struct ram_block *ram, uint64_t offset, uint64_t size);
void mem_region_init_alias(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                           struct mem_region *target, uint64_t offset, uint64_t size);
/* Higher priority wins where regions overlap. */
void mem_region_add(struct mem_region *parent, uint64_t addr, struct mem_region *child, int priority);
void mem_region_remove(struct mem_region *child);
void mem_region_set_enabled(struct mem_region *mr, bool enabled);
void mem_region_set_address(struct mem_region *mr, uint64_t addr);
/* Several changes, one rebuild. Nest. */
void mem_transaction_begin(struct vm *vm);
void mem_transaction_commit(struct vm *vm);

struct ram_block *ram_block_new(struct vm *vm, const char *id, uint64_t size, bool share, struct error *err);
void ram_block_free(struct ram_block *rb);

/* The flat table */
struct mem_range { uint64_t start, end /* inclusive */; struct mem_region *mr; uint64_t offset /* in mr */; };
struct mem_flat { unsigned count; unsigned epoch; struct mem_range range[]; };
struct address_space {
    const char *name;
    struct vm *vm;
    struct mem_region *root;
    struct mem_flat *_Atomic flat;
    /* where it translates first (IOMMU), or NULL */
    bool (*translate)(struct address_space *as, uint64_t addr, bool write, struct mem_attrs attrs, uint64_t *out,
                      uint64_t *len, struct address_space **target);
    void *iommu;
    struct address_space *next;
};
void address_space_init(struct address_space *as, struct vm *vm, struct mem_region *root, const char *name);
void address_space_destroy(struct address_space *as);
/* The range that holds addr, or NULL. Valid until the reader's next quiescent point (mem_read_end). */
const struct mem_range *address_space_lookup(struct address_space *as, uint64_t addr);
unsigned mem_read_begin(void);          /* epoch section of a reader; nests; cheap */
void mem_read_end(unsigned token);
/* Returns when every reader that was inside has left: what was taken out of the tree before may be freed. Not inside
 * a read section (so not from an MMIO callback). */
void mem_synchronize(void);
/* A closed reader, for vm.c: sets up and tears down a machine's memory. */
void mem_state_init(struct vm *vm);
void mem_state_free(struct vm *vm);

enum mem_result { MEM_OK, MEM_DECODE_ERROR /* nobody there */, MEM_DEVICE_ERROR, MEM_IOMMU_FAULT };
/* Any length; across regions. Reads that nobody answers give all ones. */
enum mem_result as_read(struct address_space *as, uint64_t addr, void *buf, uint64_t len, struct mem_attrs attrs);
enum mem_result as_write(struct address_space *as, uint64_t addr, const void *buf, uint64_t len, struct mem_attrs attrs);
uint64_t as_load(struct address_space *as, uint64_t addr, unsigned size, struct mem_attrs attrs, enum mem_result *res); /* little-endian */
void as_store(struct address_space *as, uint64_t addr, uint64_t value, unsigned size, struct mem_attrs attrs, enum mem_result *res);
/* One MMIO access to a region already looked up (soft-MMU slow path). */
uint64_t mmio_read(struct mem_region *mr, uint64_t offset, unsigned size, enum mem_result *res);
void mmio_write(struct mem_region *mr, uint64_t offset, uint64_t value, unsigned size, enum mem_result *res);
/* Direct access to RAM (that no device owns) for DMA: host pointer and *len shortened to what is contiguous; NULL if not RAM (then use
 * as_read/as_write). Writers call as_unmap with what they wrote. */
void *as_map(struct address_space *as, uint64_t addr, uint64_t *len, bool write, struct mem_attrs attrs);
void as_unmap(struct address_space *as, void *host, uint64_t len, bool written, uint64_t written_len);
/* Every host write to guest RAM ends here: dirty bits, and translated code of that range is dropped. */
void ram_written(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len);
struct ram_block *ram_block_of(struct vm *vm, const void *host, uint64_t *offset);
char *mem_tree_print(struct vm *vm, bool flat);         /* info mtree [-f]; caller frees */

#endif
