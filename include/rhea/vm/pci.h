/* PCI devices, buses and bridges. PCI Local Bus 3.0, PCI-to-PCI Bridge 1.2, PCI Express Base 4.0, PCI Firmware 3.2.
 *
 * A PCI device's struct begins with struct pci_device, its class says .parent = "pci-device", .bus = "PCI",
 * .kind_data = &(const struct pci_info){ ... }. Its realize finds a header built from pci_info, and adds BARs and
 * capabilities. Config space is accessed under the device's lock; hooks run under it. */
#ifndef RHEA_VM_PCI_H
#define RHEA_VM_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "rhea/vm/device.h"
#include "rhea/vm/memory.h"

struct pci_device;
struct pci_bus;

enum {  /* config space header (PCI 3.0, 6.1) */
    PCI_VENDOR_ID = 0x00, PCI_DEVICE_ID = 0x02, PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_REVISION = 0x08,
    PCI_CLASS_PROG = 0x09, PCI_CLASS = 0x0a, PCI_CACHE_LINE = 0x0c, PCI_HEADER_TYPE = 0x0e, PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c, PCI_SUBSYSTEM_ID = 0x2e, PCI_ROM = 0x30, PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c, PCI_INTERRUPT_PIN = 0x3d,
    PCI_PRIMARY_BUS = 0x18, PCI_SECONDARY_BUS = 0x19, PCI_SUBORDINATE_BUS = 0x1a, PCI_IO_BASE = 0x1c, PCI_IO_LIMIT = 0x1d,
    PCI_SECONDARY_STATUS = 0x1e, PCI_MEM_BASE = 0x20, PCI_MEM_LIMIT = 0x22, PCI_PREF_BASE = 0x24, PCI_PREF_LIMIT = 0x26,
    PCI_PREF_BASE_UPPER = 0x28, PCI_PREF_LIMIT_UPPER = 0x2c, PCI_IO_BASE_UPPER = 0x30, PCI_IO_LIMIT_UPPER = 0x32,
    PCI_BRIDGE_ROM = 0x38, PCI_BRIDGE_CONTROL = 0x3e,
};
enum { PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4, PCI_COMMAND_PARITY = 0x40,
       PCI_COMMAND_SERR = 0x100, PCI_COMMAND_INTX_OFF = 0x400 };
enum { PCI_STATUS_INTX = 8, PCI_STATUS_CAPS = 0x10 };
enum { PCI_CAP_PM = 0x01, PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_SSVID = 0x0d, PCI_CAP_EXPRESS = 0x10,
       PCI_CAP_MSIX = 0x11 };
enum { PCI_BAR_MEM32 = 0, PCI_BAR_IO = 1, PCI_BAR_MEM64 = 4, PCI_BAR_PREFETCH = 8 };    /* type bits of a BAR */
enum { PCI_BARS = 7, PCI_BAR_ROM = 6, PCI_CONFIG_SIZE = 256, PCIE_CONFIG_SIZE = 4096 };

struct pci_info {
    uint16_t vendor, device, subsystem_vendor, subsystem_id;
    uint8_t revision;
    uint32_t class_code;        /* 24 bits: base class, subclass, interface */
    bool bridge;                /* header type 1 */
    bool express;               /* has a PCI Express capability when it sits on an express bus */
    uint8_t express_type;       /* device/port type (PCIe 7.5.3.2): 0 endpoint, 4 root port, 9 integrated endpoint */
    bool intx;                  /* uses INTA */
    bool host_only;             /* function of the chip set: not a slot that hot plug may take */
    uint8_t pref_bus;           /* (reserved) */
    /* After the default handling of a write; may read pd->config. */
    void (*config_written)(struct pci_device *pd, unsigned offset, unsigned size, uint32_t value);
    /* Before the default handling of a read: may refresh pd->config. */
    void (*config_read)(struct pci_device *pd, unsigned offset, unsigned size);
};

struct pci_bar { struct mem_region *region; uint8_t type; uint64_t size, mapped; bool is_mapped; struct mem_region *space; };

struct pci_device {
    struct device dev;
    int32_t addr;               /* property "addr": devfn, -1: any */
    bool multifunction;
    char *romfile; uint32_t rombar; uint32_t rom_size;
    int32_t acpi_index; char *failover_pair_id;
    struct pci_bus *bus;
    uint8_t devfn;
    const struct pci_info *info;
    /* config: bytes as read; wmask: bits that writes change; w1c: bits that writing 1 clears; reset: values after reset */
    uint8_t *config, *wmask, *w1c, *reset;
    unsigned config_size;
    uint64_t cap_used[PCI_CONFIG_SIZE / 64 / 4];        /* dwords taken by capabilities */
    struct pci_bar bar[PCI_BARS];
    struct mem_region rom; struct ram_block *rom_ram;
    bool intx_level;            /* what the device asks for, before INTX_OFF */
    bool intx_wired;            /* what the root bus was told */
    uint8_t msi_cap, msix_cap, express_cap;
    struct msix *msix;
    pthread_mutex_t msi_lock;   /* MSI and MSI-X state: notifiers run on any thread */
    bool present;
};

/* A bus. Its root has lines[] and the mapping of pins to them. */
struct pci_bus {
    struct bus *bus;
    struct vm *vm;
    struct pci_device *bridge;  /* upstream bridge, NULL: root */
    struct pci_device *_Atomic fn[256];
    struct mem_region *mem, *io;        /* where BARs of its devices are mapped */
    bool express;               /* 4 KiB config space reachable */
    bool single_slot;           /* behind a root or downstream port */
    uint8_t min_slot;           /* lowest slot that a device without addr= gets */
    /* root */
    int (*route)(struct pci_bus *root, unsigned slot, unsigned pin);    /* line for the pin (0: INTA) of a slot */
    void (*set_line)(void *opaque, int line, int level);
    void *opaque;
    unsigned nlines;
    bool zero_decodes;          /* a BAR may be at address 0 (its window is elsewhere for the CPU) */
    pthread_mutex_t intx_lock;
    int line_count[32];
};

extern const struct bus_class pci_bus_class, pcie_bus_class;    /* "PCI"; "PCIE", which takes PCI devices too */

/* Host bridges and bridges: a bus of their own. mem and io: containers that BARs are mapped into. */
struct pci_bus *pci_bus_new(struct vm *vm, struct device *owner, const char *name, bool express, struct mem_region *mem,
                            struct mem_region *io);
struct pci_bus *pci_root_bus(struct vm *vm);            /* NULL: a machine without PCI */
struct pci_device *pci_find(struct pci_bus *root, unsigned bus, unsigned devfn);
unsigned pci_bus_number(const struct pci_bus *b);
uint16_t pci_requester(const struct pci_device *pd);
/* As the host bridge does them; all ones from nobody. Take the device's lock. */
uint32_t pci_config_read(struct pci_bus *root, unsigned bus, unsigned devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *root, unsigned bus, unsigned devfn, unsigned offset, unsigned size, uint32_t value);

/* ---- for devices, in realize. region: sized a power of two; the device keeps it. type: PCI_BAR_* bits. */
void pci_register_bar(struct pci_device *pd, unsigned n, uint8_t type, struct mem_region *region);
uint64_t pci_bar_address(const struct pci_device *pd, unsigned n);      /* where it is mapped; ~0: not */
/* offset 0: the next free. Returns the capability's offset, or -1. The bytes are zero and read-only at first. */
int pci_add_capability(struct pci_device *pd, uint8_t id, unsigned offset, unsigned size, struct error *err);
int pci_find_capability(const struct pci_device *pd, uint8_t id);       /* offset or 0 */
bool pci_add_express(struct pci_device *pd, unsigned offset, uint8_t type, struct error *err);
bool pci_add_power_management(struct pci_device *pd, unsigned offset, struct error *err);

/* INTA, level; any thread. Obeys INTX_OFF. */
void pci_set_irq(struct pci_device *pd, int level);

/* MSI (single message per vector count, 64-bit, maskable) and MSI-X. notify: any thread, no lock needed. */
bool msi_init(struct pci_device *pd, unsigned offset, unsigned vectors /* power of two <= 32 */, struct error *err);
bool msi_enabled(const struct pci_device *pd);
void msi_notify(struct pci_device *pd, unsigned vector);
/* Table and PBA in a BAR of their own (bar), 4 KiB or more. */
bool msix_init_bar(struct pci_device *pd, unsigned vectors, unsigned bar, struct error *err);
/* In parts of a region that is (or becomes) a BAR. */
bool msix_init(struct pci_device *pd, unsigned vectors, struct mem_region *table_region, unsigned table_bar, uint32_t table_offset,
               struct mem_region *pba_region, unsigned pba_bar, uint32_t pba_offset, unsigned cap_offset, struct error *err);
bool msix_enabled(const struct pci_device *pd);
unsigned msix_vectors(const struct pci_device *pd);     /* 0: none */
void msix_notify(struct pci_device *pd, unsigned vector);       /* also with a vector out of range: nothing happens */
/* Told when a vector is masked or unmasked (under msi_lock), so that a device may poll its pending state; or NULL. */
void msix_free(struct pci_device *pd);

/* ---- config space, little-endian */
static inline uint16_t pci_word(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t pci_long(const uint8_t *p) { return pci_word(p) | (uint32_t)pci_word(p + 2) << 16; }
static inline void pci_put_word(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v; p[1] = (uint8_t)(v >> 8); }
static inline void pci_put_long(uint8_t *p, uint32_t v) { pci_put_word(p, (uint16_t)v); pci_put_word(p + 2, (uint16_t)(v >> 16)); }
#define PCI_SLOT(devfn) ((unsigned)(devfn) >> 3)
#define PCI_FUNC(devfn) ((unsigned)(devfn) & 7)
#define PCI_DEVFN(slot, fn) ((unsigned)(slot) << 3 | (unsigned)(fn))
static inline struct pci_device *pci_device(struct device *dev) { return (struct pci_device *)dev; }

/* What firmware does, for machines that boot without one: bus numbers, BARs, bridge windows, interrupt lines. */
struct pci_windows { uint64_t mem_base, mem_size, mem64_base, mem64_size; uint32_t io_base, io_size; };
bool pci_assign_resources(struct pci_bus *root, const struct pci_windows *w, struct error *err);

char *pci_info_text(struct vm *vm);                     /* info pci; caller frees */
struct json_object *pci_query(struct vm *vm);           /* query-pci */

#endif
