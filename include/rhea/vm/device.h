/* Devices: one file and one const descriptor each. -device help, QMP introspection, the manual's table, the snapshot
 * format, ACPI/FDT nodes and the fuzz target come out of the descriptor.
 *
 * Locks: a device's callbacks (MMIO, timers, back-end events) run under its own lock, a leaf: no other device is
 * called while it is held; interrupt lines are atomics and may be set under it. */
#ifndef RHEA_VM_DEVICE_H
#define RHEA_VM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/log.h"
#include "rhea/base/loop.h"
#include "rhea/vm/memory.h"

struct vm;
struct device;
struct device_class;
struct bus;

/* ---- properties
 * Field types: BOOL bool; U8..U64, I32 as named; SIZE u64; STR, DRIVE, NETDEV, CHARDEV, IOTHREAD, OBJECT char * (owned by
 * the device, NULL: not set); ENUM u32 (index); ON_OFF_AUTO u32 (enum on_off_auto); MAC uint8_t[6]; UUID uint8_t[16];
 * PCI_ADDR i32 (devfn, -1: any); BIT bit .bit of a u64. */
enum on_off_auto { OOA_AUTO, OOA_ON, OOA_OFF };
enum prop_type { PROP_BOOL, PROP_U8, PROP_U16, PROP_U32, PROP_U64, PROP_I32, PROP_SIZE, PROP_STR, PROP_ENUM,
                 PROP_MAC, PROP_PCI_ADDR /* "slot.fn", i32, -1: any */, PROP_DRIVE, PROP_NETDEV, PROP_CHARDEV,
                 PROP_IOTHREAD, PROP_OBJECT, PROP_BIT /* of a u64: .bit */, PROP_ON_OFF_AUTO, PROP_UUID };
struct prop {
    const char *name;
    enum prop_type type;
    uint32_t offset;            /* in the device's struct */
    uint8_t bit;                /* PROP_BIT */
    const char *def;            /* default, as it would be typed; NULL: zero or none */
    const char *help;
    const char *const *values;  /* PROP_ENUM: NULL-terminated, the field holds the index (u32) */
    bool (*check)(struct device *dev, const struct prop *p, struct error *err);
    /* qom-set on a device that runs, without its lock; sees to the field too. NULL: it stays as it was at realize. */
    bool (*change)(struct device *dev, const char *value, struct error *err);
};
#define PROP(struct_type, field, prop_name, prop_type, default_text, help_text) \
    { .name = prop_name, .type = prop_type, .offset = offsetof(struct_type, field), .def = default_text, .help = help_text }

/* ---- state that is saved in snapshots, by stable names */
enum state_type { ST_U8, ST_U16, ST_U32, ST_U64, ST_BOOL, ST_BYTES, ST_ARRAY_U32, ST_ARRAY_U64, ST_TIMER, ST_STRUCT };
struct state_field { const char *name; enum state_type type; uint32_t offset, count; uint16_t since; uint64_t def; };
#define STATE_U8(s, f)   { #f, ST_U8, offsetof(s, f), 1, 0, 0 }
#define STATE_U16(s, f)  { #f, ST_U16, offsetof(s, f), 1, 0, 0 }
#define STATE_U32(s, f)  { #f, ST_U32, offsetof(s, f), 1, 0, 0 }
#define STATE_U64(s, f)  { #f, ST_U64, offsetof(s, f), 1, 0, 0 }
#define STATE_BOOL(s, f) { #f, ST_BOOL, offsetof(s, f), 1, 0, 0 }
#define STATE_BYTES(s, f) { #f, ST_BYTES, offsetof(s, f), sizeof(((s *)0)->f), 0, 0 }

/* ---- the descriptor */
struct mmio_desc {
    const char *name;
    uint64_t size;
    uint8_t width, min, max;    /* register width; access sizes taken, 0: = width */
    bool big_endian, unaligned, lockless;
    uint64_t (*read)(struct device *dev, uint64_t offset, unsigned size);
    void (*write)(struct device *dev, uint64_t offset, uint64_t value, unsigned size);
};
enum reset_kind { RESET_COLD, RESET_GUEST, RESET_WARM };
enum { DEVICE_MMIO_MAX = 6, DEVICE_IRQ_MAX = 32 };

/* What an object has beside plain properties: computed when asked (qom-get), or acting when set (qom-set). */
struct object_prop {
    const char *name, *type;    /* type as qom-list shows it: "bool", "int", "str", ... */
    struct json_object *(*get)(void *obj, struct error *err);
    bool (*set)(void *obj, struct json_object *value, struct error *err);
};

/* An abstract kind of device ("pci-device"): what all its classes have. Kinds may have a parent kind. */
struct device_kind {
    const char *name, *parent;
    const struct prop *props;
    bool (*realize)(struct device *dev, struct error *err);     /* before the class's own (plugged already) */
    bool (*realized)(struct device *dev, struct error *err);    /* after it */
    void (*unrealize)(struct device *dev);                      /* after the class's own */
    void (*free)(struct device *dev);
    void (*reset_enter)(struct device *dev, enum reset_kind kind);      /* before the class's own, as the next two */
    void (*reset_hold)(struct device *dev);
    void (*reset_exit)(struct device *dev);
};

struct device_class {
    const char *name;           /* of -device */
    const char *parent;         /* abstract kind: "sysbus", "pci-device", "isa-device", "virtio-device", ... */
    const char *bus;            /* bus kind it plugs into: "PCI", "ISA", "virtio-bus", ...; NULL: board only */
    const char *category;       /* -device help section: "Controller/Bridge/Hub", "Storage", "Network", "Input", "Display", "Sound", "Misc", "CPU", "Watchdog" */
    const char *summary;
    const char *alias;          /* another name */
    size_t size;
    bool hotpluggable, user_creatable;
    struct mmio_desc mmio[DEVICE_MMIO_MAX];
    const struct prop *props;   /* ends with a NULL name; a parent kind's come before */
    const struct state_field *state;
    bool (*realize)(struct device *dev, struct error *err);
    void (*unrealize)(struct device *dev);
    /* three phases over the whole tree: enter (registers to reset values, no outside effect), hold (lines), exit */
    void (*reset_enter)(struct device *dev, enum reset_kind kind);
    void (*reset_hold)(struct device *dev);
    void (*reset_exit)(struct device *dev);
    int (*fdt)(struct device *dev, void *fdt);
    const struct { const char *compatible[4]; } *fdt_node;
    const void *kind_data;      /* the parent kind's own descriptor part: struct pci_info, struct virtio_info ... */
    const struct object_prop *object_props;     /* ends with a NULL name; get and set run under the device's lock */
};

/* A line: set and read as an atomic level; the sink is told on a change. */
struct irq;
typedef void irq_handler(void *opaque, int n, int level);
/* (told once per change, in order, by one thread at a time; a handler never calls back into the device) */
struct irq *irq_new(irq_handler *fn, void *opaque, int n);
void irq_free(struct irq *irq);
void irq_set(struct irq *irq, int level);       /* any thread; NULL is allowed: an unconnected line */
int irq_level(const struct irq *irq);
static inline void irq_raise(struct irq *irq) { irq_set(irq, 1); }
static inline void irq_lower(struct irq *irq) { irq_set(irq, 0); }
static inline void irq_pulse(struct irq *irq) { irq_set(irq, 1); irq_set(irq, 0); }

struct device {
    const struct device_class *cls;
    struct vm *vm;
    char *id;                   /* id= of -device, or NULL */
    char *path;                 /* in the object tree: /machine/peripheral/ID, /machine/unattached/device[N] */
    struct bus *parent_bus;
    struct device *next;        /* in vm->devices */
    GRecMutex lock;
    struct loop *loop;          /* where its timers and back-end events run (main, or its iothread) */
    struct mem_region mmio[DEVICE_MMIO_MAX];
    struct irq *irq_out[DEVICE_IRQ_MAX];        /* lines the device drives; whoever connected them owns them */
    struct bus *child_bus[4];
    struct json_object *opts;   /* as the user gave them */
    bool realized, hotplugged, pending_delete;
    const struct device_kind *kind;
    struct device *parent;      /* composite device it is a part of, or NULL */
    char *child_name;           /* its name in there */
    struct address_space *_Atomic as;   /* device_as(); NULL: the machine's memory */
    uint16_t requester;         /* PCI requester id of its DMA */
    unsigned error_budget;      /* guest_error(): lines left */
    unsigned lock_depth; struct device *lock_outer;     /* device_lock(): guarded by the lock */
};
#define device_cast(d, type) ((type *)(d))      /* struct device is the first member */

/* A bus instance that devices plug into. */
struct bus_class {
    const char *name;           /* "PCI" */
    const char *also;           /* devices of this bus kind fit too ("PCIE" takes "PCI"), or NULL */
    bool (*full)(struct bus *bus);      /* has no room: skipped when a bus is looked for by kind; may be NULL */
    /* finds a place for dev (address property) and wires it; undone by unplug */
    bool (*plug)(struct bus *bus, struct device *dev, struct error *err);
    void (*unplug)(struct bus *bus, struct device *dev);
    /* device_del: asks the guest to let go of dev; it is removed when it has. NULL: removed at once. */
    bool (*unplug_request)(struct bus *bus, struct device *dev, struct error *err);
    void (*free)(struct bus *bus);      /* of bus->priv; may be NULL */
    char *(*describe)(struct bus *bus, struct device *dev);     /* info qtree / pci address text; caller frees */
};
struct bus {
    const struct bus_class *cls;
    char *name;
    struct device *owner;
    GPtrArray *devices;
    struct vm *vm;
    struct bus *next;
    void *priv;                 /* the bus kind's own (interrupt lines ...) */
    bool hotplug;               /* devices may come and go while the machine runs */
};
struct bus *bus_new(struct vm *vm, const struct bus_class *cls, struct device *owner, const char *name);
void bus_free(struct bus *bus);          /* empty */
struct bus *bus_find(struct vm *vm, const char *name_or_kind);

/* Registration by linker section: nothing is registered twice. */
#define DEVICE_CONCAT_(a, b) a##b
#define DEVICE_CONCAT(a, b) DEVICE_CONCAT_(a, b)
#define DEVICE_(name)                                                                              \
    static const struct device_class name;                                                         \
    static const struct device_class *const DEVICE_CONCAT(name, _ptr)                              \
        __attribute__((section("rhea_devices"), used)) = &name;                                    \
    static const struct device_class name
#define DEVICE DEVICE_(DEVICE_CONCAT(device_class_, __COUNTER__))
const struct device_class *device_class_find(const char *name);         /* aliases too */
const struct device_class *const *device_classes(unsigned *count);

#define DEVICE_KIND_(name)                                                                         \
    static const struct device_kind name;                                                          \
    static const struct device_kind *const DEVICE_CONCAT(name, _ptr)                               \
        __attribute__((section("rhea_device_kinds"), used)) = &name;                               \
    static const struct device_kind name
#define DEVICE_KIND DEVICE_KIND_(DEVICE_CONCAT(device_kind_, __COUNTER__))
const struct device_kind *device_kind_find(const char *name);
/* Is cls of that name, or of that kind (at any depth)? */
bool device_class_is(const struct device_class *cls, const char *name);

/* Makes a device, unrealized, with property defaults (and -global) applied. */
struct device *device_new(struct vm *vm, const char *class_name, const char *id, struct error *err);
/* A property as typed; names of the class and its parent kind. */
bool device_set(struct device *dev, const char *prop, const char *value, struct error *err);
char *device_get(struct device *dev, const char *prop, struct error *err);      /* as it would be typed */
const struct prop *device_prop_find(const struct device_class *cls, const char *name);
/* Sets every member of opts but driver, id, bus; plugs into `bus` (or one found by opts "bus" or the class's kind). */
bool device_realize(struct device *dev, struct bus *bus, struct error *err);
struct device *device_create(struct vm *vm, struct json_object *opts, bool hotplug, struct error *err);     /* -device, device_add */
void device_remove(struct device *dev);         /* unrealize, unplug, free */
/* Makes dev a part of `parent` named `name` (path PARENT/NAME); before realize. Removed with its parent. */
void device_set_parent(struct device *dev, struct device *parent, const char *name);
/* device_remove() where the guest need not be asked: later, on the main loop; emits DEVICE_DELETED. Any thread. */
void device_remove_later(struct device *dev);
bool device_unplug(struct vm *vm, const char *id, struct error *err);   /* device_del */
struct device *device_find(struct vm *vm, const char *id_or_path);
/* First device of that class (or kind), or after `prev`. */
struct device *device_find_class(struct vm *vm, const char *class_name, struct device *prev);
/* The device's lock, as callbacks have it; nests. Marks the thread, so that DMA into MMIO is deferred. */
void device_lock(struct device *dev);
void device_unlock(struct device *dev);
/* Does the bus take devices of that bus kind? */
bool bus_takes(const struct bus *bus, const char *kind);
void device_reset_tree(struct vm *vm, enum reset_kind kind);
void device_reset_one(struct device *dev, enum reset_kind kind);       /* with its parts and what is behind its buses */
char *device_help(const char *class_name);      /* NULL name: the list by category; caller frees */

/* DMA of a device: in its own address space, where translation may fault. Guarded against re-entry: DMA into MMIO is
 * deferred, into the device itself refused. */
struct address_space *device_as(struct device *dev);
enum mem_result dma_read(struct device *dev, uint64_t addr, void *buf, uint64_t len);
enum mem_result dma_write(struct device *dev, uint64_t addr, const void *buf, uint64_t len);

/* A broken request of the guest: logged under guest_errors, rate-limited. */
void guest_error(struct device *dev, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void guest_unimp(struct device *dev, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#endif
