/* GICv3's interrupt translation service: a message (device, event) becomes an LPI at a CPU (GIC chapter 5). The tables lie
 * in guest memory, in our own format, and every entry is checked each time it is read: the guest may write there what it
 * likes. A message takes no lock of the ITS; commands run under the device's.
 *
 * Entries, of 8 bytes each:  device: valid 63, ITT size in ID bits 62-58, ITT address 51-8
 *                            collection: valid 63, CPU 15-0
 *                            interrupt: valid 63, collection 47-32, LPI 31-0 */
#include "arm_gicv3.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/vm.h"

enum { GITS_CTLR = 0x0000, GITS_IIDR = 0x0004, GITS_TYPER = 0x0008, GITS_CBASER = 0x0080, GITS_CWRITER = 0x0088, GITS_CREADR = 0x0090,
       GITS_BASER = 0x0100, GITS_ID = 0xffd0, GITS_TRANSLATER = 0x10040 };
enum { DEVICE_BITS = 16, EVENT_BITS = 16, ENTRY = 8, COMMAND = 32, BATCH = 256, BASERS = 2, BASER_DEVICES = 0, BASER_COLLECTIONS = 1 };
enum { CMD_MOVI = 0x01, CMD_INT = 0x03, CMD_CLEAR = 0x04, CMD_SYNC = 0x05, CMD_MAPD = 0x08, CMD_MAPC = 0x09, CMD_MAPTI = 0x0a, CMD_MAPI = 0x0b,
       CMD_INV = 0x0c, CMD_INVALL = 0x0d, CMD_MOVALL = 0x0e, CMD_DISCARD = 0x0f };
#define VALID (UINT64_C(1) << 63)
#define BASER_INDIRECT (UINT64_C(1) << 62)
#define BASER_WRITABLE UINT64_C(0xf8e0ffffffffffff)     /* all but type and entry size */
#define BASER_ADDR UINT64_C(0x0000fffffffff000)
#define CBASER_ADDR UINT64_C(0x000ffffffffff000)
#define ITT_ADDR UINT64_C(0x000fffffffffff00)

struct its {
    struct device dev;
    struct gicv3 *gic;
    bool enabled;               /* these are read without a lock */
    uint64_t baser[BASERS];
    uint64_t cbaser, cwriter, creadr;
    struct vm_timer *more;      /* runs on through a long queue */
};

static struct its *its_of(struct device *dev) { return device_cast(dev, struct its); }

/* ---- tables */

/* Where entry n of a table is: 5.2.1. Flat, or by a first level of pages. */
static bool table_entry(struct its *s, unsigned table, uint32_t n, uint64_t *at)
{
    uint64_t b = __atomic_load_n(&s->baser[table], __ATOMIC_ACQUIRE), base, size, l1;
    unsigned page_bits = (b >> 8 & 3) == 0 ? 12 : (b >> 8 & 3) == 1 ? 14 : 16;

    if (!(b & VALID))
        return false;
    base = b & BASER_ADDR & ~((UINT64_C(1) << page_bits) - 1);
    if (page_bits == 16)
        base |= (b >> 12 & 15) << 48;
    size = ((b & 0xff) + 1) << page_bits;
    if (!(b & BASER_INDIRECT)) {
        *at = base + (uint64_t)n * ENTRY;
        return (uint64_t)n * ENTRY < size;
    }
    l1 = ((uint64_t)n * ENTRY >> page_bits) * 8;
    if (l1 >= size || !gic_ram_read(s->dev.vm, base + l1, &l1, 8) || !(l1 & VALID))
        return false;
    *at = (l1 & CBASER_ADDR) + ((uint64_t)n * ENTRY & ((UINT64_C(1) << page_bits) - 1));
    return true;
}

static bool table_read(struct its *s, unsigned table, uint32_t n, uint64_t *e)
{
    uint64_t at;

    return table_entry(s, table, n, &at) && gic_ram_read(s->dev.vm, at, e, 8) && *e & VALID;
}

static bool table_write(struct its *s, unsigned table, uint32_t n, uint64_t e)
{
    uint64_t at;

    return table_entry(s, table, n, &at) && gic_ram_write(s->dev.vm, at, &e, 8);
}

/* The CPU of a collection; NULL: not mapped. */
static struct gicr *collection_cpu(struct its *s, uint16_t collection)
{
    uint64_t e;

    return table_read(s, BASER_COLLECTIONS, collection, &e) && (e & 0xffff) < s->gic->in.ncpus ? &s->gic->cpu[e & 0xffff] : NULL;
}

struct mapping { uint64_t at; uint32_t lpi; uint16_t collection; };

/* Where the entry of (device, event) is; false: no such device or event. */
static bool event_entry(struct its *s, uint32_t device, uint32_t event, uint64_t *at)
{
    uint64_t d;

    if (!table_read(s, BASER_DEVICES, device, &d) || (uint64_t)event >> ((d >> 58 & 31) + 1))
        return false;
    *at = (d & ITT_ADDR) + (uint64_t)event * ENTRY;
    return true;
}

static bool event_find(struct its *s, uint32_t device, uint32_t event, struct mapping *m)
{
    uint64_t e;

    if (!event_entry(s, device, event, &m->at) || !gic_ram_read(s->dev.vm, m->at, &e, 8) || !(e & VALID))
        return false;
    m->lpi = (uint32_t)e;
    m->collection = e >> 32 & 0xffff;
    return m->lpi >= GIC_LPI_FIRST && m->lpi < GIC_LPI_END;
}

static bool event_set(struct its *s, uint64_t at, uint32_t lpi, uint16_t collection)
{
    uint64_t e = VALID | (uint64_t)collection << 32 | lpi;

    return gic_ram_write(s->dev.vm, at, &e, 8);
}

/* ---- messages */

static bool translate(struct its *s, uint32_t device, uint32_t event, bool pending)
{
    struct mapping m;
    struct gicr *r;

    if (!event_find(s, device, event, &m) || !(r = collection_cpu(s, m.collection)))
        return false;
    gicr_lpi_set(r, m.lpi, pending);
    return true;
}

bool gic_its_message(struct device *dev, uint64_t offset, uint32_t event, uint16_t requester)
{
    struct its *s = its_of(dev);

    if (offset != GITS_TRANSLATER)
        return false;
    if (__atomic_load_n(&s->enabled, __ATOMIC_ACQUIRE) && !translate(s, requester, event, true))
        guest_error(dev, "message %u of device %#x is not mapped", event, requester);
    return true;
}

/* ---- commands: 5.3. true: done. What is wrong is ignored, as 5.3.1 allows, and logged. */

static bool cmd_mapd(struct its *s, const uint64_t c[4])
{
    uint64_t size = c[1] & 31, e = c[2] & VALID ? VALID | size << 58 | (c[2] & ITT_ADDR) : 0;

    return size < EVENT_BITS && table_write(s, BASER_DEVICES, (uint32_t)(c[0] >> 32), e);
}

static bool cmd_mapc(struct its *s, const uint64_t c[4])
{
    uint64_t cpu = c[2] >> 16 & 0xffff;

    if (!(c[2] & VALID))
        return table_write(s, BASER_COLLECTIONS, c[2] & 0xffff, 0);
    return cpu < s->gic->in.ncpus && table_write(s, BASER_COLLECTIONS, c[2] & 0xffff, VALID | cpu);
}

static bool cmd_map_event(struct its *s, const uint64_t c[4])
{
    uint32_t event = (uint32_t)c[1], lpi = (c[0] & 0xff) == CMD_MAPI ? event : (uint32_t)(c[1] >> 32);
    uint64_t at;

    return lpi >= GIC_LPI_FIRST && lpi < GIC_LPI_END && event_entry(s, (uint32_t)(c[0] >> 32), event, &at) &&
           event_set(s, at, lpi, c[2] & 0xffff);
}

static bool cmd_movi(struct its *s, const uint64_t c[4])
{
    struct gicr *from, *to = collection_cpu(s, c[2] & 0xffff);
    struct mapping m;

    if (!to || !event_find(s, (uint32_t)(c[0] >> 32), (uint32_t)c[1], &m) || !event_set(s, m.at, m.lpi, c[2] & 0xffff))
        return false;
    from = collection_cpu(s, m.collection);
    if (from)
        gicr_lpi_move(from, to, m.lpi);
    return true;
}

static bool cmd_discard(struct its *s, const uint64_t c[4])
{
    struct mapping m;
    struct gicr *r;
    uint64_t none = 0;

    if (!event_find(s, (uint32_t)(c[0] >> 32), (uint32_t)c[1], &m))
        return false;
    r = collection_cpu(s, m.collection);
    if (r)
        gicr_lpi_set(r, m.lpi, false);
    return gic_ram_write(s->dev.vm, m.at, &none, 8);
}

static bool cmd_int(struct its *s, const uint64_t c[4]) { return translate(s, (uint32_t)(c[0] >> 32), (uint32_t)c[1], true); }
static bool cmd_clear(struct its *s, const uint64_t c[4]) { return translate(s, (uint32_t)(c[0] >> 32), (uint32_t)c[1], false); }

static bool look_again(struct gicr *r)
{
    if (r)
        gicr_lpi_look(r);
    return r;
}

static bool cmd_inv(struct its *s, const uint64_t c[4])
{
    struct mapping m;

    return event_find(s, (uint32_t)(c[0] >> 32), (uint32_t)c[1], &m) && look_again(collection_cpu(s, m.collection));
}

static bool cmd_invall(struct its *s, const uint64_t c[4]) { return look_again(collection_cpu(s, c[2] & 0xffff)); }

static bool cmd_movall(struct its *s, const uint64_t c[4])
{
    uint64_t from = c[2] >> 16 & 0xffff, to = c[3] >> 16 & 0xffff;

    if (from >= s->gic->in.ncpus || to >= s->gic->in.ncpus)
        return false;
    gicr_lpi_move_all(&s->gic->cpu[from], &s->gic->cpu[to]);
    return true;
}

static bool cmd_sync(struct its *s, const uint64_t c[4]) { return true; }        /* all effects are immediate */

static const struct { uint8_t code; const char *name; bool (*run)(struct its *s, const uint64_t c[4]); } commands[] = {
    { CMD_MOVI, "MOVI", cmd_movi }, { CMD_INT, "INT", cmd_int }, { CMD_CLEAR, "CLEAR", cmd_clear }, { CMD_SYNC, "SYNC", cmd_sync },
    { CMD_MAPD, "MAPD", cmd_mapd }, { CMD_MAPC, "MAPC", cmd_mapc }, { CMD_MAPTI, "MAPTI", cmd_map_event }, { CMD_MAPI, "MAPI", cmd_map_event },
    { CMD_INV, "INV", cmd_inv }, { CMD_INVALL, "INVALL", cmd_invall }, { CMD_MOVALL, "MOVALL", cmd_movall },
    { CMD_DISCARD, "DISCARD", cmd_discard },
};

static void run_command(struct its *s, const uint64_t c[4])
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].code != (c[0] & 0xff))
            continue;
        if (!commands[i].run(s, c))
            guest_error(&s->dev, "%s of device %#x, event %#x: not mapped, or out of range", commands[i].name, (unsigned)(c[0] >> 32), (unsigned)c[1]);
        return;
    }
    guest_error(&s->dev, "unknown command %#x", (unsigned)(c[0] & 0xff));
}

/* Runs what is between the reader and the writer, and leaves what is much to the machine's loop: a queue of 32768 commands
 * that each look through all LPIs would keep the CPU that writes for minutes. */
static void run_queue(void *opaque)
{
    struct its *s = opaque;
    unsigned budget = BATCH;

    uint64_t base = s->cbaser & CBASER_ADDR, size = ((s->cbaser & 0xff) + 1) << 12, c[4];

    if (!s->enabled || !(s->cbaser & VALID) || s->cwriter >= size)
        return;
    while (s->creadr != s->cwriter) {
        if (!budget--) {
            vm_timer_set(s->more, vm_clock_ns(s->dev.vm));
            return;
        }
        for (unsigned i = 0; i < 4; i++) {
            if (!gic_ram_read(s->dev.vm, base + s->creadr + 8 * i, &c[i], 8)) {
                guest_error(&s->dev, "the command queue is not in memory");
                return;
            }
        }
        run_command(s, c);
        s->creadr = s->creadr + COMMAND >= size ? 0 : s->creadr + COMMAND;
    }
}

/* ---- registers */

static uint64_t typer(void)
{
    return 1 /* physical LPIs */ | (ENTRY - 1) << 4 | (EVENT_BITS - 1) << 8 | (DEVICE_BITS - 1) << 13;
}

static uint64_t *wide_register(struct its *s, uint64_t offset)
{
    switch (offset & ~UINT64_C(7)) {
    case GITS_CBASER:  return &s->cbaser;
    case GITS_CWRITER: return &s->cwriter;
    case GITS_CREADR:  return &s->creadr;
    case GITS_BASER ... GITS_BASER + 8 * BASERS - 1: return &s->baser[(offset - GITS_BASER) / 8];
    default:           return NULL;
    }
}

static uint64_t its_read(struct device *dev, uint64_t offset, unsigned size)
{
    struct its *s = its_of(dev);
    uint64_t *wide = wide_register(s, offset), v;

    if (wide)
        v = *wide;
    else if ((offset & ~UINT64_C(7)) == GITS_TYPER)
        v = typer();
    else
        switch (offset) {
        case GITS_CTLR: return s->enabled | 1u << 31;           /* always quiescent */
        case GITS_IIDR: return 0x0000043b;
        case GITS_ID ... GITS_ID + 0x2c: return gicv3_id_register(offset);
        default: return 0;
        }
    v >>= offset & 4 ? 32 : 0;
    return size == 8 ? v : (uint32_t)v;
}

static void baser_write(struct its *s, unsigned n, uint64_t v)
{
    uint64_t fixed = (n == BASER_DEVICES ? UINT64_C(1) : UINT64_C(4)) << 56 | (uint64_t)(ENTRY - 1) << 48;

    if (s->enabled)                     /* 12.19.1: unpredictable; here nothing changes */
        return;
    if ((v >> 8 & 3) == 3)
        v &= ~(UINT64_C(1) << 8);       /* reserved page size: 64 KiB */
    __atomic_store_n(&s->baser[n], (v & BASER_WRITABLE) | fixed, __ATOMIC_RELEASE);
}

static void wide_write(struct its *s, uint64_t offset, uint64_t v)
{
    switch (offset & ~UINT64_C(7)) {
    case GITS_CBASER:
        if (s->enabled)
            return;
        s->cbaser = v & UINT64_C(0xf8ffffffffffffff);
        s->creadr = 0;
        break;
    case GITS_CWRITER:
        s->cwriter = v & 0xfffe0;
        run_queue(s);
        break;
    case GITS_BASER ... GITS_BASER + 8 * BASERS - 1:
        baser_write(s, (unsigned)(offset - GITS_BASER) / 8, v);
        break;
    }
}

static void its_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    struct its *s = its_of(dev);
    uint64_t *wide = wide_register(s, offset);

    if (wide && size == 8) {
        wide_write(s, offset, v);
    } else if (wide && size == 4) {
        uint64_t old = *wide;

        wide_write(s, offset & ~UINT64_C(7), offset & 4 ? (old & 0xffffffff) | v << 32 : (old & ~UINT64_C(0xffffffff)) | v);
    } else if (offset == GITS_CTLR) {
        __atomic_store_n(&s->enabled, v & 1, __ATOMIC_RELEASE);
        run_queue(s);
    }
}

static uint64_t translater_read(struct device *dev, uint64_t offset, unsigned size)
{
    return 0;
}

/* A CPU writes there: it has no device id, and so no mapping (5.4 leaves it to the system). */
static void translater_write(struct device *dev, uint64_t offset, uint64_t v, unsigned size)
{
    guest_error(dev, "GITS_TRANSLATER was written by a CPU");
}

static void its_reset(struct device *dev, enum reset_kind kind)
{
    struct its *s = its_of(dev);

    s->enabled = false;
    s->cbaser = s->cwriter = s->creadr = 0;
    baser_write(s, BASER_DEVICES, 0);
    baser_write(s, BASER_COLLECTIONS, 0);
}

void gic_its_connect(struct device *its, struct device *gic)
{
    its_of(its)->gic = device_cast(gic, struct gicv3);
}

static bool its_realize(struct device *dev, struct error *err)
{
    if (!its_of(dev)->gic || !its_of(dev)->gic->lpis)
        return error_set(err, ERR_GENERIC, "arm-gicv3-its needs a GICv3 with LPIs", NULL);
    its_of(dev)->more = vm_timer_new(dev->vm, dev, run_queue, dev);
    return true;
}

static void its_unrealize(struct device *dev)
{
    vm_timer_free(its_of(dev)->more);
}

DEVICE = {
    .name = "arm-gicv3-its",
    .parent = "sysbus",
    .category = "Misc",
    .summary = "GICv3 interrupt translation service",
    .size = sizeof(struct its),
    .mmio = { { .name = "control", .size = 0x10000, .width = 4, .min = 4, .max = 8, .read = its_read, .write = its_write },
              { .name = "translation", .size = 0x10000, .width = 4, .min = 2, .max = 4, .lockless = true, .read = translater_read,
                .write = translater_write } },
    .state = (const struct state_field[]){ STATE_BOOL(struct its, enabled), STATE_BYTES(struct its, baser), STATE_U64(struct its, cbaser),
                                           STATE_U64(struct its, cwriter), STATE_U64(struct its, creadr), { 0 } },
    .realize = its_realize,
    .unrealize = its_unrealize,
    .reset_enter = its_reset,
};
