/* A guest that means harm: random and adversarial values to every register, ring and table that the board has, without end.
 * Nothing is expected of the machine but that it lives: test_hostile.py looks after that. Whatever exception or interrupt
 * comes, the next action begins. All CPUs do this at once. */
#include "hostile.h"

volatile struct config config = { .magic = "HOSTILE", .seed = 1, .board = 0, .cpus = 1 };
struct range ranges[RANGES_MAX];
unsigned nranges;
static unsigned fixed_ranges;

/* ---- chance: xorshift64*, a state for each CPU */

static uint64_t state[8];

uint64_t rnd(void)
{
    uint64_t *s = &state[cpu_id() & 7], x = *s;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x ? x : 1;
    return x * 0x2545f4914f6cdd1d;
}

uintptr_t arena(unsigned align)
{
    return ARENA + (below(ARENA_SIZE) & ~(align - 1));
}

static uintptr_t somewhere(void)
{
    const struct range *r = &ranges[below(nranges)];

    return r->base + below(r->size);
}

uint64_t value(void)
{
    switch (below(16)) {
    case 0:  return 0;
    case 1:  return ~0ull;
    case 2:  return 1;
    case 3:  return 1ull << below(64);
    case 4:  return (1ull << below(64)) - 1;
    case 5:  return ~(1ull << below(64));
    case 6:  return arena(1);
    case 7:  return arena(4096);
    case 8:  return RAM_BASE + RAM_SIZE - below(64);
    case 9:  return somewhere();
    case 10: return (uint64_t)somewhere() << 32;
    case 11: return arena(4096) >> 12;
    case 12: return below(256);
    case 13: return below(65536);
    case 14: return 0x0101010101010101 * below(256);
    default: return rnd();
    }
}

/* ---- registers */

void range_add(uintptr_t base, uint32_t size, uint32_t weight)
{
    if (nranges < RANGES_MAX && size)
        ranges[nranges++] = (struct range){ base, size, weight };
}

static const struct range *range_pick(void)
{
    unsigned sum = 0, n;

    for (unsigned i = 0; i < nranges; i++)
        sum += ranges[i].weight;
    n = below(sum);
    for (unsigned i = 0; i < nranges; i++) {
        if (n < ranges[i].weight)
            return &ranges[i];
        n -= ranges[i].weight;
    }
    return &ranges[0];
}

static void poke(uintptr_t a, uint64_t v)
{
    switch (below(10)) {
    case 0: REG8(a) = (uint8_t)v; break;
    case 1: REG16(a & ~1ul) = (uint16_t)v; break;
    case 2: REG64(a & ~7ul) = v; break;
    case 3: (void)REG8(a); break;
    case 4: (void)REG16(a & ~1ul); break;
    case 5: (void)REG64(a & ~7ul); break;
    case 6: case 7: (void)REG32(a & ~3ul); break;
    default: REG32(a & ~3ul) = (uint32_t)v; break;
    }
}

static void act_poke(void)
{
    const struct range *r = range_pick();

    for (unsigned n = below(16); n; n--) {
        /* most devices have their registers at the beginning */
        uint32_t span = one_in(4) ? r->size : one_in(2) ? 4096 : 256;

        poke(r->base + below(span < r->size ? span : r->size), value());
    }
}

static void act_same(void)
{
    const struct range *r = range_pick();
    uintptr_t a = (r->base + below(r->size < 4096 ? r->size : 4096)) & ~3ul;

    for (unsigned n = below(100); n; n--)
        REG32(a) = (uint32_t)value();
}

static void act_sweep(void)
{
    const struct range *r = range_pick();
    uintptr_t a = r->base + (below(r->size) & ~255u);

    for (unsigned n = 0; n < 64; n++)
        if (one_in(2))
            (void)REG32(a + n * 4);
        else
            REG32(a + n * 4) = (uint32_t)value();
}

static void act_scribble(void)
{
    uintptr_t a = arena(8);

    for (unsigned n = below(64); n && a + 8 <= ARENA + ARENA_SIZE; n--, a += 8)
        REG64(a) = value();
}

/* ---- PCI */

static uint32_t functions[64];
static unsigned nfunctions;

static uint32_t a_function(void)
{
    return nfunctions && !one_in(8) ? functions[below(nfunctions)] : below(65536);
}

static void pci_look(void)
{
    nfunctions = 0;
    for (unsigned bus = 0; bus < 4; bus++)
        for (unsigned fn = 0; fn < 256; fn++)
            if ((uint16_t)config_read(bus << 8 | fn, 0) != 0xffff && nfunctions < 64)
                functions[nfunctions++] = bus << 8 | fn;
}

/* Bridges get numbers, base registers places: mostly good ones, each its own. */
static void act_pci_assign(void)
{
    if (one_in(4))
        for (unsigned i = 0; i < nfunctions; i++)
            if ((config_read(functions[i], 0xc) >> 16 & 0x7f) == 1) {
                config_write(functions[i], 0x18, 0x00030000 | (1 + below(3)) << 8, 4);
                config_write(functions[i], 0x20, 0xfff00000 | (pci_window >> 16), 4);
            }
    pci_look();
    nranges = fixed_ranges;
    for (unsigned i = 0; i < nfunctions; i++) {
        uint32_t f = functions[i];

        for (unsigned b = 0; b < 6; b++) {
            unsigned reg = 0x10 + 4 * b;
            uint32_t mask, at = (uint32_t)pci_window + ((i * 8 + b) << 16);

            config_write(f, reg, ~0u, 4);
            mask = config_read(f, reg);
            if (!mask)
                continue;
            if (mask & 1) {
                config_write(f, reg, 0xc000 + ((i * 8 + b) << 7), 4);
                continue;
            }
            if (one_in(300))
                at = (uint32_t)value();
            config_write(f, reg, at, 4);
            if ((mask & 6) == 4)
                config_write(f, 0x10 + 4 * ++b, 0, 4);
            if (at >= pci_window && at - pci_window < 32 << 20)
                range_add(at, ~(mask & ~15u) + 1 < 65536 ? ~(mask & ~15u) + 1 : 65536, 4);
        }
        config_write(f, 4, one_in(10) ? (uint32_t)value() : 0x547, 2);
    }
}

static void act_pci_config(void)
{
    uint32_t f = a_function();

    for (unsigned n = below(8); n; n--) {
        unsigned reg = one_in(4) ? below(4096) : below(256);

        if (one_in(3))
            (void)config_read(f, reg & ~3u);
        else
            config_write(f, reg, (uint32_t)value(), 1u << below(3));
    }
}

/* MSI-X on, vectors at places that interrupt or do worse. */
static void act_pci_msi(void)
{
    uint32_t f = a_function();
    unsigned cap = config_read(f, 0x34) & 0xfc;

    for (unsigned n = 0; cap && n < 48; n++) {
        uint32_t head = config_read(f, cap);

        if ((head & 0xff) == 0x11 || (head & 0xff) == 5) {
            config_write(f, cap, head | (one_in(8) ? (uint32_t)value() : 0x80000000 | ((head & 0xff) == 5 ? 0x10000 : 0)), 4);
            if ((head & 0xff) == 5)
                for (unsigned r = 4; r < 24; r += 4)
                    config_write(f, cap + r, (uint32_t)value(), 4);
        }
        cap = head >> 8 & 0xfc;
    }
}

/* ---- virtio: enough of a driver to get a queue going, and then wrong chains */

struct virtio { uintptr_t common, notify, device; uint32_t notify_multiplier; bool pci; };

static bool virtio_find(struct virtio *v)
{
    uint32_t f;
    unsigned cap;

    *v = (struct virtio){ 0 };
    if (!nfunctions || one_in(3)) {
        /* a memory-mapped slot */
        for (unsigned n = 0; n < 40; n++) {
            const struct range *r = &ranges[below(fixed_ranges)];

            if (r->weight == 99) {
                v->common = r->base;
                return REG32(r->base + 8) != 0;
            }
        }
        return false;
    }
    f = functions[below(nfunctions)];
    if ((uint16_t)config_read(f, 0) != 0x1af4)
        return false;
    cap = config_read(f, 0x34) & 0xfc;
    for (unsigned n = 0; cap && n < 48; n++) {
        uint32_t head = config_read(f, cap), bar = config_read(f, cap + 4) & 7;

        if ((head & 0xff) == 9 && bar < 6) {
            uintptr_t at = (config_read(f, 0x10 + 4 * bar) & ~15u) + config_read(f, cap + 8);

            if (head >> 24 == 1)
                v->common = at;
            else if (head >> 24 == 2) {
                v->notify = at;
                v->notify_multiplier = config_read(f, cap + 16);
            } else if (head >> 24 == 4) {
                v->device = at;
            }
        }
        cap = head >> 8 & 0xfc;
    }
    v->pci = true;
    return v->common >= pci_window && v->notify >= pci_window && v->common - pci_window < 32 << 20;
}

static void virtio_status(const struct virtio *v, uint32_t s)
{
    if (v->pci)
        REG8(v->common + 20) = (uint8_t)s;
    else
        REG32(v->common + 0x70) = s;
}

static uint32_t virtio_features(const struct virtio *v, unsigned word)
{
    REG32(v->common + (v->pci ? 0 : 0x14)) = word;
    return REG32(v->common + (v->pci ? 4 : 0x10));
}

static void virtio_accept(const struct virtio *v, unsigned word, uint32_t bits)
{
    REG32(v->common + (v->pci ? 8 : 0x24)) = word;
    REG32(v->common + (v->pci ? 12 : 0x20)) = bits;
}

static void queue_place(const struct virtio *v, unsigned q, unsigned size, uintptr_t at)
{
    uint64_t desc = one_in(20) ? value() : at, driver = one_in(20) ? value() : at + 0x1000, device = one_in(20) ? value() : at + 0x2000;

    if (v->pci) {
        REG16(v->common + 22) = (uint16_t)q;
        REG16(v->common + 24) = (uint16_t)size;
        REG16(v->common + 26) = one_in(2) ? 0 : (uint16_t)value();
        REG32(v->common + 32) = (uint32_t)desc;
        REG32(v->common + 36) = (uint32_t)(desc >> 32);
        REG32(v->common + 40) = (uint32_t)driver;
        REG32(v->common + 44) = (uint32_t)(driver >> 32);
        REG32(v->common + 48) = (uint32_t)device;
        REG32(v->common + 52) = (uint32_t)(device >> 32);
        REG16(v->common + 28) = 1;
        return;
    }
    REG32(v->common + 0x30) = q;
    REG32(v->common + 0x38) = size;
    REG32(v->common + 0x80) = (uint32_t)desc;
    REG32(v->common + 0x84) = (uint32_t)(desc >> 32);
    REG32(v->common + 0x90) = (uint32_t)driver;
    REG32(v->common + 0x94) = (uint32_t)(driver >> 32);
    REG32(v->common + 0xa0) = (uint32_t)device;
    REG32(v->common + 0xa4) = (uint32_t)(device >> 32);
    REG32(v->common + 0x28) = 4096;             /* the legacy way, where the device is of that kind */
    REG32(v->common + 0x3c) = 1u << below(14);
    REG32(v->common + 0x40) = (uint32_t)(at >> 12);
    REG32(v->common + 0x44) = 1;
}

static uint32_t a_length(void)
{
    static const uint32_t some[] = { 0, 1, 2, 8, 10, 12, 16, 17, 20, 24, 511, 512, 1024, 1500, 4096, 65535, 65536, 1 << 20, 0x7fffffff, 0xfffffff0, ~0u };

    return one_in(8) ? (uint32_t)value() : some[below(sizeof(some) / sizeof(some[0]))];
}

/* A descriptor table whose chains are mostly whole: a header, data, a status byte; every part may be wrong. */
static void chains(uintptr_t at, unsigned size, bool packed)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned place = i % 3;
        uintptr_t to = arena(1);
        uint32_t len = place == 0 ? 16 : place == 1 ? 512u << below(5) : 1;
        uint16_t flags = (place < 2 ? 1 : 0) | (place == 2 || (place == 1 && one_in(2)) ? 2 : 0), next = (uint16_t)(i + 1);

        REG32(to & ~3ul) = below(16);           /* a request of some kind */
        REG64((to & ~7ul) + 8) = one_in(2) ? below(64) : value();
        if (one_in(6))
            len = a_length();
        if (one_in(10))
            flags = (uint16_t)below(8);
        if (one_in(10))
            next = (uint16_t)below(size * 2);
        if (one_in(20))
            next = (uint16_t)value();
        REG64(at + i * 16) = one_in(12) ? value() : to;
        REG32(at + i * 16 + 8) = len;
        if (packed) {
            REG16(at + i * 16 + 12) = (uint16_t)i;
            REG16(at + i * 16 + 14) = (uint16_t)(flags | (one_in(8) ? value() & 0x8080 : 0x0080));
        } else {
            REG16(at + i * 16 + 12) = flags;
            REG16(at + i * 16 + 14) = next;
        }
    }
}

static void ring_fill(uintptr_t at, unsigned size, unsigned q)
{
    chains(at, size, one_in(3));
    if (one_in(3)) {                            /* an indirect table, of a length that may not be one */
        uintptr_t table = arena(16);
        unsigned d = below(size);

        chains(table, 16, one_in(3));
        REG64(at + d * 16) = table;
        REG32(at + d * 16 + 8) = one_in(4) ? a_length() : 16 * (1 + below(16));
        REG16(at + d * 16 + 12) = (uint16_t)(4 | (one_in(4) ? below(8) : 0));
    }
    for (unsigned i = 0; i < size; i++)
        REG16(at + 0x1004 + 2 * i) = one_in(16) ? (uint16_t)value() : (uint16_t)(3 * i % size);
    REG16(at + 0x1000) = (uint16_t)below(2);
    REG16(at + 0x1002) = one_in(10) ? (uint16_t)value() : (uint16_t)(1 + below(size));
    if (q == 0 && one_in(2))
        REG16(at + 0x1002) = (uint16_t)size;
}

static void act_virtio(void)
{
    struct virtio v;
    uintptr_t at[3];
    unsigned size[3], queues = 1 + below(3);

    if (!virtio_find(&v))
        return;
    virtio_status(&v, 0);
    virtio_status(&v, 3);
    for (unsigned w = 0; w < 2; w++) {
        uint32_t offered = virtio_features(&v, w);

        virtio_accept(&v, w, one_in(16) ? (uint32_t)value() : (offered & (one_in(2) ? ~0u : (uint32_t)(rnd() | 1))) | (w == 1 && !one_in(8)));
    }
    virtio_status(&v, 11);
    for (unsigned i = 0; i < queues; i++) {
        at[i] = arena(16384) & ~16383ul;
        if (at[i] > ARENA + ARENA_SIZE - 32768)
            at[i] = ARENA;
        size[i] = one_in(8) ? 1 + below(256) : 1u << below(9);
        ring_fill(at[i], size[i], i);
        queue_place(&v, one_in(20) ? (unsigned)value() : i, one_in(30) ? (unsigned)value() : size[i], at[i]);
    }
    virtio_status(&v, one_in(10) ? (uint32_t)value() : 15);
    for (unsigned n = below(12); n; n--) {
        unsigned q = below(queues);

        if (v.pci)
            REG16(v.notify + q * v.notify_multiplier) = (uint16_t)(one_in(20) ? value() : q);
        else
            REG32(v.common + 0x50) = one_in(20) ? (uint32_t)value() : q;
        if (one_in(2))
            ring_fill(at[q], size[q], q);
        if (one_in(6) && v.device)
            poke(v.device + below(64), value());
        if (one_in(6) && !v.pci)
            poke(v.common + 0x100 + below(64), value());
        if (one_in(30))
            virtio_status(&v, (uint32_t)value());
    }
}

/* ---- fw_cfg's DMA: control, length, address, big-endian */

static void act_fw_cfg(void)
{
    uintptr_t c = arena(16);
    uint64_t to = one_in(4) ? value() : arena(1);

    if (c > ARENA + ARENA_SIZE - 16)
        return;
    REG32(c) = swap(one_in(4) ? (uint32_t)value() : (uint32_t)(below(64) << 16 | below(32)));
    REG32(c + 4) = swap(one_in(64) ? a_length() : a_length() & 0xfffff);    /* a long one zeroes us */
    REG32(c + 8) = swap((uint32_t)(to >> 32));
    REG32(c + 12) = swap((uint32_t)to);
    fw_cfg_dma(one_in(16) ? (uintptr_t)value() : c);
}

/* ---- the rest of a life */

static volatile bool prepared;
static const struct { void (*act)(void); unsigned weight; bool pci; } actions[] = {
    { act_poke, 30 }, { act_same, 3 }, { act_sweep, 4 }, { act_scribble, 6 }, { act_virtio, 25 }, { act_fw_cfg, 4 }, { board_act, 12 },
    { cpu_unmask, 6 }, { act_pci_config, 8, true }, { act_pci_assign, 1, true }, { act_pci_msi, 3, true },
};

void resume(void)
{
    unsigned sum = 0;

    cpu_acknowledge();
    for (unsigned i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        sum += actions[i].weight;
    for (;;) {
        unsigned n = below(sum), i = 0;

        while (n >= actions[i].weight)
            n -= actions[i++].weight;
        REG64(KEPT + 8) = state[0];
        REG64(KEPT + 16)++;             /* a sign of life */
        if (!actions[i].pci || has_pci())
            actions[i].act();
    }
}

/* Every CPU comes here. A reset goes on where the last life ended. */
void main(void)
{
    unsigned id = cpu_id();

    if (id == 0) {
        state[0] = config.seed * 0x9e3779b97f4a7c15 + 1;
        if (REG64(KEPT) == 0x4c49564544000000) {
            state[0] ^= REG64(KEPT + 8) * 3;
        } else {
            REG64(KEPT) = 0x4c49564544000000;
            REG64(KEPT + 16) = 0;
        }
        nranges = 0;
        board_init();
        fixed_ranges = nranges;
        if (has_pci())
            act_pci_assign();
        prepared = true;
    } else {
        while (!prepared)
            ;
        state[id & 7] = state[0] * (id + 77) + 1;
    }
    resume();
}
