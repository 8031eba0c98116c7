/* Parallel NOR flash with Intel's command set. Common Flash Interface (JESD68.01), command set 0001 as in Intel's
 * StrataFlash data sheet (28F640J3). One or several chips side by side make up the bus's width; they do the same.
 *
 * In array mode reads go to memory directly (and code runs from there); any write is a command, and until the array is asked
 * for again reads give status, identity or query data: then a region for registers lies over the memory.
 *
 * What is programmed goes to the drive behind: pages are marked, and written one run at a time on the main loop. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "rhea/block/block.h"
#include "rhea/device/pflash.h"
#include "rhea/vm/vm.h"

enum { CMD_ARRAY = 0xff, CMD_ARRAY_AMD = 0xf0, CMD_STATUS = 0x70, CMD_CLEAR_STATUS = 0x50, CMD_ID = 0x90, CMD_QUERY = 0x98, CMD_PROGRAM = 0x40,
       CMD_PROGRAM_ALT = 0x10, CMD_ERASE = 0x20, CMD_BUFFER = 0xe8, CMD_LOCK = 0x60, CMD_CONFIRM = 0xd0, CMD_SUSPEND = 0xb0 };
enum { SR_READY = 0x80, SR_ERASE = 0x20, SR_PROGRAM = 0x10, SR_SEQUENCE = 0x30 };
enum { QUERY_SIZE = 0x52, QUERY_PRI = 0x31, BUFFER_LOG2 = 11 /* bytes a chip */, PAGE = 4096, RUN_PAGES = 16, CHIPS_MAX = 4 };

/* What reads give, and what the next write is. */
enum mode { MODE_ARRAY, MODE_STATUS, MODE_ID, MODE_QUERY };
enum step { STEP_COMMAND, STEP_PROGRAM, STEP_ERASE, STEP_LOCK, STEP_COUNT, STEP_DATA, STEP_CONFIRM };

struct pflash {
    struct device dev;
    char *drive, *name;
    uint32_t blocks;
    uint64_t sector;            /* bytes, over all chips */
    uint8_t width, chip_width;
    uint16_t id0, id1, id2, id3;
    bool secure;
    uint64_t size, stored;      /* stored: bytes that the drive has room for */
    bool readonly;
    struct ram_block *ram;
    struct mem_region array, registers;
    struct block_backend *backend;
    uint8_t query[QUERY_SIZE];
    uint8_t mode, step, status;
    uint8_t *buffer;            /* of a buffered write: data, from buffer_at on */
    uint64_t buffer_at;
    uint32_t buffer_left;       /* bus words */
    /* pages to be written to the drive; one run is under way */
    uint8_t *dirty;
    bool writing, posted, closing;      /* closing: unrealize() writes what is left */
    uint8_t *bounce;
    uint64_t bounce_at, bounce_len;
};

static struct pflash *pflash_of(struct device *dev) { return device_cast(dev, struct pflash); }
static unsigned chips(const struct pflash *f) { return f->width / f->chip_width; }
static uint64_t buffer_bytes(const struct pflash *f) { return (uint64_t)chips(f) << BUFFER_LOG2; }

/* ---- the drive */

static void write_next(void *opaque);

/* Under the lock: sees to it that write_next() runs. */
static void write_post(struct pflash *f)
{
    if (f->posted || f->writing || f->closing || !f->backend)
        return;
    f->posted = true;
    loop_post(f->dev.loop, write_next, f);
}

static void write_done(void *opaque, int ret)
{
    struct pflash *f = opaque;

    device_lock(&f->dev);
    f->writing = false;
    if (ret < 0)
        guest_error(&f->dev, "its drive could not be written: %s", strerror(-ret));
    write_post(f);
    device_unlock(&f->dev);
}

/* Takes the first run of dirty pages into the bounce buffer. */
static bool take_run(struct pflash *f)
{
    uint64_t pages = (f->stored + PAGE - 1) / PAGE, first = 0, n = 0;

    while (first < pages && !f->dirty[first])
        first++;
    while (first + n < pages && n < RUN_PAGES && f->dirty[first + n])
        f->dirty[first + n++] = 0;
    f->bounce_at = first * PAGE;
    f->bounce_len = n ? MIN(n * PAGE, f->stored - f->bounce_at) : 0;
    if (n)
        memcpy(f->bounce, f->ram->host + f->bounce_at, f->bounce_len);
    return n;
}

static void write_next(void *opaque)
{
    struct pflash *f = opaque;
    struct iovec iov;
    bool any;

    device_lock(&f->dev);
    f->posted = false;
    any = !f->writing && take_run(f);
    f->writing = f->writing || any;
    iov = (struct iovec){ f->bounce, f->bounce_len };
    device_unlock(&f->dev);
    if (any)
        block_writev(f->backend, f->bounce_at, &iov, 1, 0, write_done, f);
}

static void changed(struct pflash *f, uint64_t offset, uint64_t len)
{
    ram_written(f->dev.vm, f->ram, offset, len);
    for (uint64_t p = offset / PAGE; p <= (offset + len - 1) / PAGE; p++)
        f->dirty[p] = 1;
    write_post(f);
}

/* ---- modes */

static void set_mode(struct pflash *f, enum mode mode)
{
    bool over = mode != MODE_ARRAY;

    if (over != (f->mode != MODE_ARRAY))
        mem_region_set_enabled(&f->registers, over);
    f->mode = (uint8_t)mode;
}

static void ready(struct pflash *f, uint8_t errors)
{
    f->status |= SR_READY | errors;
    f->step = STEP_COMMAND;
    set_mode(f, MODE_STATUS);
}

/* ---- programming: bits can be cleared only */

static bool may_write(const struct pflash *f, uint64_t offset, uint64_t len)
{
    return !f->readonly && offset < f->size && len <= f->size - offset;
}

static void program(struct pflash *f, uint64_t offset, const uint8_t *data, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        f->ram->host[offset + i] &= data[i];
    changed(f, offset, len);
}

static void program_word(struct pflash *f, uint64_t offset, uint64_t value, unsigned size)
{
    uint8_t bytes[8];

    memcpy(bytes, &value, 8);
    if (may_write(f, offset, size))
        program(f, offset, bytes, size);
    ready(f, may_write(f, offset, size) ? 0 : SR_PROGRAM);
}

static void erase(struct pflash *f, uint64_t offset)
{
    offset -= offset % f->sector;
    if (!may_write(f, offset, f->sector)) {
        ready(f, SR_ERASE);
        return;
    }
    memset(f->ram->host + offset, 0xff, f->sector);
    changed(f, offset, f->sector);
    ready(f, 0);
}

static void buffer_start(struct pflash *f, uint64_t offset, uint64_t value)
{
    uint64_t words = (value & (f->chip_width == 1 ? 0xff : 0xffff)) + 1;

    if (words * f->width > buffer_bytes(f)) {
        ready(f, SR_SEQUENCE);
        return;
    }
    f->buffer_left = (uint32_t)words;
    f->buffer_at = UINT64_MAX;
    memset(f->buffer, 0xff, buffer_bytes(f));
    f->step = STEP_DATA;
}

/* The first word says which buffer-sized part of the flash is meant; the others must fall into it. */
static void buffer_data(struct pflash *f, uint64_t offset, uint64_t value, unsigned size)
{
    if (f->buffer_at == UINT64_MAX)
        f->buffer_at = offset - offset % buffer_bytes(f);
    if (offset < f->buffer_at || offset + size > f->buffer_at + buffer_bytes(f)) {
        ready(f, SR_SEQUENCE);
        return;
    }
    memcpy(f->buffer + (offset - f->buffer_at), &value, size);
    if (--f->buffer_left == 0)
        f->step = STEP_CONFIRM;
}

static void buffer_program(struct pflash *f)
{
    uint64_t len = MIN(buffer_bytes(f), f->size - MIN(f->size, f->buffer_at));
    bool ok = len && may_write(f, f->buffer_at, len);

    if (ok)
        program(f, f->buffer_at, f->buffer, len);
    ready(f, ok ? 0 : SR_PROGRAM);
}

/* ---- commands */

static void command(struct pflash *f, uint8_t cmd)
{
    switch (cmd) {
    case CMD_ARRAY: case CMD_ARRAY_AMD: case 0:
        set_mode(f, MODE_ARRAY);
        break;
    case CMD_CLEAR_STATUS:
        f->status = SR_READY;
        set_mode(f, MODE_ARRAY);
        break;
    case CMD_STATUS:  set_mode(f, MODE_STATUS); break;
    case CMD_ID:      set_mode(f, MODE_ID); break;
    case CMD_QUERY:   set_mode(f, MODE_QUERY); break;
    case CMD_SUSPEND: set_mode(f, MODE_STATUS); break;          /* nothing takes long enough to be suspended */
    case CMD_PROGRAM: case CMD_PROGRAM_ALT:
        f->step = STEP_PROGRAM;
        set_mode(f, MODE_STATUS);
        break;
    case CMD_ERASE:
        f->step = STEP_ERASE;
        set_mode(f, MODE_STATUS);
        break;
    case CMD_LOCK:
        f->step = STEP_LOCK;
        set_mode(f, MODE_STATUS);
        break;
    case CMD_BUFFER:
        f->step = STEP_COUNT;
        f->status |= SR_READY;
        set_mode(f, MODE_STATUS);
        break;
    default:
        guest_unimp(&f->dev, "command %#x", cmd);
        set_mode(f, MODE_ARRAY);
    }
}

static void flash_write(struct pflash *f, uint64_t offset, uint64_t value, unsigned size)
{
    uint8_t cmd = (uint8_t)value;

    switch (f->step) {
    case STEP_COMMAND: command(f, cmd); return;
    case STEP_PROGRAM: program_word(f, offset, value, size); return;
    case STEP_COUNT:   buffer_start(f, offset, value); return;
    case STEP_DATA:    buffer_data(f, offset, value, size); return;
    case STEP_ERASE:
        if (cmd == CMD_CONFIRM)
            erase(f, offset);
        else
            ready(f, SR_SEQUENCE);
        return;
    case STEP_CONFIRM:
        if (cmd == CMD_CONFIRM)
            buffer_program(f);
        else
            ready(f, SR_SEQUENCE);
        return;
    case STEP_LOCK:                     /* blocks are never locked */
        ready(f, cmd == CMD_CONFIRM || cmd == 0x01 || cmd == 0x2f ? 0 : SR_SEQUENCE);
        return;
    }
}

static void write_fn(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    flash_write(opaque, offset, value, size);
}

/* ---- reads while not in array mode */

/* Every chip answers alike, in its part of the bus. */
static uint64_t lanes(const struct pflash *f, uint64_t v)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < f->width; i += f->chip_width)
        all |= v << 8 * i;
    return all;
}

static uint64_t register_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pflash *f = opaque;
    uint64_t word = offset / f->width, v;

    switch (f->mode) {
    case MODE_STATUS: v = f->status; break;
    case MODE_ID:                       /* manufacturer, device, then lock states: none is locked */
        word &= 0xff;
        v = word == 0 ? f->id0 : word == 1 ? f->id1 : 0;
        break;
    case MODE_QUERY:  v = word < QUERY_SIZE ? f->query[word] : 0; break;
    default:
        v = 0;
        if (offset + size <= f->size)
            memcpy(&v, f->ram->host + offset, size);
        return v;
    }
    v = lanes(f, v) >> 8 * (offset % f->width);
    return size == 8 ? v | v << 32 : v & ((UINT64_C(1) << 8 * size) - 1);
}

static const struct mmio_ops register_ops = { .read = register_read, .write = write_fn, .min = 1, .max = 4 };

static unsigned log2_of(uint64_t v) { return 63 - (unsigned)__builtin_clzll(v); }

/* JESD68.01, table 1 to 4, as one chip says it */
static void make_query(struct pflash *f)
{
    uint64_t chip_size = f->size / chips(f), sector = f->sector / chips(f);
    static const uint8_t head[] = { 'Q', 'R', 'Y', 0x01, 0, QUERY_PRI, 0 };
    static const uint8_t pri[] = { 'P', 'R', 'I', '1', '0' };
    uint8_t *q = f->query;

    memcpy(q + 0x10, head, sizeof(head));
    q[0x1b] = 0x45;                     /* 4.5 V to 5.5 V */
    q[0x1c] = 0x55;
    q[0x1f] = q[0x20] = 7;              /* typical times: 2^n us for a word, a buffer; 2^n ms for a block */
    q[0x21] = 10;
    q[0x23] = q[0x24] = q[0x25] = 4;    /* at most 2^n times as long */
    q[0x27] = (uint8_t)log2_of(chip_size);
    q[0x28] = 2;                        /* 8 and 16 bits wide */
    q[0x2a] = BUFFER_LOG2;
    q[0x2c] = 1;                        /* one kind of block */
    q[0x2d] = (uint8_t)(f->blocks - 1);
    q[0x2e] = (uint8_t)((f->blocks - 1) >> 8);
    q[0x2f] = (uint8_t)(sector >> 8);
    q[0x30] = (uint8_t)(sector >> 16);
    memcpy(q + QUERY_PRI, pri, sizeof(pri));
}

/* ---- life */

static bool check_geometry(struct pflash *f, struct error *err)
{
    if (!f->chip_width)
        f->chip_width = f->width;
    f->size = f->sector * f->blocks;
    if ((f->width != 1 && f->width != 2 && f->width != 4) || f->width % f->chip_width || chips(f) > CHIPS_MAX || f->blocks == 0 ||
        f->blocks > 65536 || f->sector % PAGE || f->sector > 16 << 20 || f->size > UINT64_C(1) << 32 || f->size & (f->size - 1))
        return error_set(err, ERR_GENERIC, "cfi.pflash01: the size is a power of two up to 4 GiB, of up to 65536 sectors of whole pages, the width 1, 2 or 4",
                         "give num-blocks, sector-length and width");
    if (f->secure)
        return error_set(err, ERR_GENERIC, "cfi.pflash01: secure=on needs system management mode, which is not modelled", "leave it out");
    return true;
}

static void read_done(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

static bool read_drive(struct pflash *f, struct error *err)
{
    struct block_info info;
    struct iovec iov;
    int ret = 1;

    f->backend = block_backend_attach(f->dev.vm, f->drive, &f->dev, true, false, NULL);
    if (!f->backend) {
        f->backend = block_backend_attach(f->dev.vm, f->drive, &f->dev, false, false, err);
        if (!f->backend)
            return false;
        f->readonly = true;
    }
    block_backend_info(f->backend, &info);
    f->readonly |= info.read_only;
    if (info.size > f->size)
        return error_setf(err, ERR_GENERIC, "truncate the image, or use one made for this machine", "cfi.pflash01: '%s' has %" G_GUINT64_FORMAT
                          " bytes, the flash %" G_GUINT64_FORMAT, f->drive, info.size, f->size);
    f->stored = info.size;
    if (!f->stored)
        return true;
    iov = (struct iovec){ f->ram->host, f->stored };
    block_readv(f->backend, 0, &iov, 1, 0, read_done, &ret);
    block_drain(f->backend);
    if (ret)
        return error_setf(err, ERR_GENERIC, NULL, "cfi.pflash01: cannot read '%s': %s", f->drive, strerror(ret < 0 ? -ret : EIO));
    return true;
}

/* Erased flash: mappings of one stretch of ones, so that what is never used takes no memory (a bank has 32 or 64 MiB). */
static void fill_erased(uint8_t *host, uint64_t size)
{
    enum { STRETCH = 1 << 20 };
    int fd = memfd_create("erased-flash", MFD_CLOEXEC);
    uint8_t *ones = fd < 0 || ftruncate(fd, STRETCH) ? MAP_FAILED : mmap(NULL, STRETCH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint64_t done = 0;

    if (ones != MAP_FAILED) {
        memset(ones, 0xff, STRETCH);
        munmap(ones, STRETCH);
        while (size - done >= STRETCH && mmap(host + done, STRETCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED)
            done += STRETCH;
        madvise(host, done, MADV_DONTDUMP);
    }
    if (fd >= 0)
        close(fd);
    memset(host + done, 0xff, size - done);
}

static bool pflash_realize(struct device *dev, struct error *err)
{
    struct pflash *f = pflash_of(dev);
    g_autofree char *id = NULL;

    if (!check_geometry(f, err))
        return false;
    id = g_strdup(f->name && *f->name ? f->name : "pflash");
    f->ram = ram_block_new(dev->vm, id, f->size, false, err);
    if (!f->ram)
        return false;
    fill_erased(f->ram->host, f->size);
    f->dirty = g_malloc0(f->size / PAGE);
    f->bounce = g_malloc(RUN_PAGES * PAGE);
    f->buffer = g_malloc(buffer_bytes(f));
    make_query(f);
    mem_region_init_rom(&f->array, dev->vm, dev, "pflash", f->ram, 0, f->size);
    f->array.ops = &register_ops;
    f->array.opaque = f;
    mem_region_init_mmio(&f->registers, dev->vm, dev, "pflash-registers", f->size, &register_ops, f);
    mem_region_set_enabled(&f->registers, false);
    /* One region to map: the array, and the registers over it while they are wanted. */
    mem_region_init_container(&dev->mmio[0], dev->vm, dev, "pflash", f->size);
    mem_region_add(&dev->mmio[0], 0, &f->array, 0);
    mem_region_add(&dev->mmio[0], 0, &f->registers, 1);
    f->status = SR_READY;
    return !f->drive || !*f->drive || read_drive(f, err);
}

bool pflash_load(struct device *dev, const void *data, size_t len, struct error *err)
{
    struct pflash *f = pflash_of(dev);

    if (len > f->size)
        return error_setf(err, ERR_GENERIC, "this is no firmware for this machine", "the firmware has %zu KiB, the flash %" G_GUINT64_FORMAT, len >> 10,
                          f->size >> 10);
    memcpy(f->ram->host, data, len);
    return true;
}

uint64_t pflash_size(struct device *dev) { return pflash_of(dev)->size; }

static void pflash_unrealize(struct device *dev)
{
    struct pflash *f = pflash_of(dev);

    device_lock(dev);
    f->closing = true;          /* the end of the write that is under way must not post for another */
    device_unlock(dev);
    while (f->posted && loop_step(dev->loop, false))
        ;
    if (f->ram) {
        if (dev->mmio[0].parent)
            mem_region_remove(&dev->mmio[0]);
        mem_region_remove(&f->array);
        mem_region_remove(&f->registers);
        mem_synchronize();
    }
    if (f->backend) {
        block_drain(f->backend);
        while (f->dirty && take_run(f)) {
            struct iovec iov = { f->bounce, f->bounce_len };
            int ret = 0;

            block_writev(f->backend, f->bounce_at, &iov, 1, 0, read_done, &ret);
            block_drain(f->backend);
        }
        block_backend_detach(f->backend);
    }
    g_free(f->dirty);
    g_free(f->bounce);
    g_free(f->buffer);
}

static void pflash_reset(struct device *dev, enum reset_kind kind)
{
    struct pflash *f = pflash_of(dev);

    f->step = STEP_COMMAND;
    f->status = SR_READY;
    set_mode(f, MODE_ARRAY);
}

static bool change_drive(struct device *dev, const char *value, struct error *err)
{
    struct pflash *f = pflash_of(dev);

    if (!f->backend)
        return error_set(err, ERR_GENERIC, "the flash has no drive", "give it one from the start");
    if (!block_backend_change(f->backend, value, err))
        return false;
    device_lock(dev);
    g_free(f->drive);
    f->drive = g_strdup(value);
    device_unlock(dev);
    return true;
}

DEVICE = {
    .name = "cfi.pflash01",
    .parent = "sysbus",
    .category = "Storage",
    .summary = "parallel NOR flash (Intel command set)",
    .size = sizeof(struct pflash),
    .props = (const struct prop[]){
        { .name = "drive", .type = PROP_DRIVE, .offset = offsetof(struct pflash, drive), .help = "what it holds", .change = change_drive },
        PROP(struct pflash, blocks, "num-blocks", PROP_U32, "0", "erase blocks"),
        PROP(struct pflash, sector, "sector-length", PROP_U64, "0", "bytes of an erase block"),
        PROP(struct pflash, width, "width", PROP_U8, "0", "bytes of the bus"),
        PROP(struct pflash, chip_width, "device-width", PROP_U8, "0", "bytes of one chip; 0: one chip as wide as the bus"),
        PROP(struct pflash, id0, "id0", PROP_U16, "0", "manufacturer"), PROP(struct pflash, id1, "id1", PROP_U16, "0", "device"),
        PROP(struct pflash, id2, "id2", PROP_U16, "0", "reserved"), PROP(struct pflash, id3, "id3", PROP_U16, "0", "reserved"),
        PROP(struct pflash, secure, "secure", PROP_BOOL, "off", "only system management mode may write"),
        PROP(struct pflash, name, "name", PROP_STR, NULL, "of its memory"), { 0 } },
    .state = (const struct state_field[]){ STATE_U8(struct pflash, mode), STATE_U8(struct pflash, step), STATE_U8(struct pflash, status),
                                           STATE_U64(struct pflash, buffer_at), STATE_U32(struct pflash, buffer_left), { 0 } },
    .realize = pflash_realize,
    .unrealize = pflash_unrealize,
    .reset_enter = pflash_reset,
};
