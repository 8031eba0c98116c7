/* Machines: memory, devices, properties, clock, life; and two of them in one process. */
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/options.h"
#include "rhea/vm/qom.h"
#include "rhea/vm/vm.h"

/* ---- a machine for tests: no instruction set, vCPU threads that spin until parked */

static struct guest test_guest;

struct test_board { uint32_t knob; };

static bool test_board_init(struct vm *vm, struct error *err)
{
    vm->guest = &test_guest;
    for (unsigned i = 0; i < vm->config.cpus; i++)
        if (!vcpu_new(vm, err))
            return false;
    return true;
}

BOARD = {
    .name = "test-1.0", .alias = "test", .summary = "for tests", .max_cpus = 4, .data_size = sizeof(struct test_board),
    .init = test_board_init,
    .props = (const struct prop[]){ PROP(struct test_board, knob, "knob", PROP_U32, "7", "a knob"), { 0 } },
};

BOARD = { .name = "test-wide", .max_cpus = 12, .init = test_board_init };

static _Atomic unsigned spins;

static void test_vcpu_loop(struct vcpu *v)
{
    while (vcpu_park(v, NULL)) {
        atomic_fetch_and(&v->cpu->exit_request, ~(unsigned)CPU_EXIT_STOP);
        while (!v->stop_requested)
            atomic_fetch_add(&spins, 1);
    }
}

static _Atomic unsigned map_changes, code_writes;
static void test_memory_changed(struct vm *vm) { map_changes++; }
static void test_ram_written(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len) { code_writes++; }

ACCEL = { .name = "test-accel", .vcpu_loop = test_vcpu_loop, .memory_changed = test_memory_changed, .ram_written = test_ram_written };

static struct json_object *accel_list(void)
{
    static struct json_object *o;

    if (!o)
        o = json_tokener_parse("[{\"accel\": \"test-accel\"}]");
    return o;
}

static struct vm *machine(struct loop *loop, unsigned cpus)
{
    struct vm_config c = { .machine = "test", .accel = accel_list(), .cpus = cpus };
    struct error err = ERROR_INIT;
    struct vm *vm;

    test_guest.name = "test";
    test_guest.cpu_size = sizeof(struct cpu);
    vm = vm_create(&c, loop, &err);
    g_assert_cmpstr(err.msg, ==, NULL);
    g_assert_nonnull(vm);
    return vm;
}

/* ---- a device */

struct thing {
    struct device dev;
    uint32_t reg[4];
    bool flag; uint8_t byte; uint64_t size, bits; char *text; uint32_t mode; uint8_t mac[6]; uint8_t uuid[16]; int32_t addr;
    uint32_t auto_;
    unsigned reads, writes; unsigned last_size; uint64_t last_offset;
    struct vm_timer *timer; unsigned ticks; int64_t tick_at;
    int phases;
    uint64_t dma_to;
    enum mem_result dma_result;
};

static struct thing *thing(struct device *d) { return (struct thing *)d; }

static uint64_t thing_read(struct device *d, uint64_t offset, unsigned size)
{
    thing(d)->reads++;
    thing(d)->last_size = size;
    thing(d)->last_offset = offset;
    return thing(d)->reg[offset / 4 & 3];
}

static void thing_write(struct device *d, uint64_t offset, uint64_t v, unsigned size)
{
    uint32_t word = 0x12345678;

    thing(d)->writes++;
    thing(d)->last_size = size;
    thing(d)->reg[offset / 4 & 3] = (uint32_t)v;
    if (offset == 12)
        thing(d)->dma_result = dma_write(d, thing(d)->dma_to, &word, 4);
}

static void thing_tick(void *opaque)
{
    struct thing *t = opaque;

    t->ticks++;
    t->tick_at = vm_clock_ns(t->dev.vm);
    vm_timer_set(t->timer, vm_timer_expiry(t->timer) < 0 ? t->tick_at + 1000000 : 0);
}

static bool thing_realize(struct device *d, struct error *err)
{
    if (thing(d)->byte == 99)
        return error_set(err, ERR_GENERIC, "99 is not liked", NULL);
    thing(d)->timer = vm_timer_new(d->vm, d, thing_tick, d);
    return true;
}

static void thing_unrealize(struct device *d) { vm_timer_free(thing(d)->timer); }
static void thing_enter(struct device *d, enum reset_kind k) { memset(thing(d)->reg, 0, 16); thing(d)->phases = 1; }
static void thing_hold(struct device *d) { thing(d)->phases = thing(d)->phases * 10 + 2; }
static void thing_exit(struct device *d) { thing(d)->phases = thing(d)->phases * 10 + 3; }

DEVICE = {
    .name = "thing", .parent = "sysbus", .category = "Misc", .summary = "a thing", .size = sizeof(struct thing),
    .user_creatable = true, .alias = "ding",
    .mmio = { { .name = "thing-regs", .size = 16, .width = 4, .read = thing_read, .write = thing_write } },
    .realize = thing_realize, .unrealize = thing_unrealize,
    .reset_enter = thing_enter, .reset_hold = thing_hold, .reset_exit = thing_exit,
    .props = (const struct prop[]){
        PROP(struct thing, flag, "flag", PROP_BOOL, "on", "a flag"),
        PROP(struct thing, byte, "byte", PROP_U8, "5", "a byte"),
        PROP(struct thing, size, "size", PROP_SIZE, "64K", "a size"),
        PROP(struct thing, text, "text", PROP_STR, NULL, "a text"),
        { .name = "mode", .type = PROP_ENUM, .offset = offsetof(struct thing, mode), .def = "slow",
          .values = (const char *const[]){ "fast", "slow", NULL } },
        { .name = "bit3", .type = PROP_BIT, .offset = offsetof(struct thing, bits), .bit = 3, .def = "on" },
        PROP(struct thing, mac, "mac", PROP_MAC, NULL, "MAC"),
        PROP(struct thing, uuid, "uuid", PROP_UUID, NULL, "UUID"),
        PROP(struct thing, addr, "addr", PROP_PCI_ADDR, NULL, "address"),
        PROP(struct thing, auto_, "auto", PROP_ON_OFF_AUTO, "auto", "maybe"),
        { 0 } },
};

static struct thing *thing_new(struct vm *vm, const char *id, uint64_t at)
{
    struct error err = ERROR_INIT;
    struct device *d = device_new(vm, "thing", id, &err);

    g_assert_cmpstr(err.msg, ==, NULL);
    g_assert_true(device_realize(d, NULL, &err));
    mem_region_add(&vm->system_memory, at, &d->mmio[0], 0);
    return thing(d);
}

/* ---- memory */

static void test_overlap_and_alias(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct ram_block *rb = ram_block_new(vm, "ram", 1 << 20, false, NULL);
    struct mem_region ram, low, high, rom;
    struct thing *t = thing_new(vm, NULL, 0x8000);
    uint32_t v = 0x11223344, got;
    enum mem_result res;
    uint64_t len;
    unsigned before;

    mem_region_init_ram(&ram, vm, NULL, "ram", rb, 0, 1 << 20);
    mem_region_init_alias(&low, vm, NULL, "low", &ram, 0, 0x10000);
    mem_region_init_alias(&high, vm, NULL, "high", &ram, 0x10000, 0xf0000);
    mem_region_init_rom(&rom, vm, NULL, "rom", rb, 0x4000, 0x1000);
    mem_transaction_begin(vm);
    mem_region_add(&vm->system_memory, 0, &low, -1);
    mem_region_add(&vm->system_memory, 0xfffffffffff10000, &high, 0);
    mem_region_add(&vm->system_memory, 0x20000, &rom, 0);
    before = map_changes;
    mem_transaction_commit(vm);
    g_assert_cmpuint(map_changes, ==, before + 1);

    /* the thing hides RAM at 8000h, RAM goes on behind it */
    g_assert_cmpint(as_write(&vm->memory, 0x7ffe, &v, 4, MEM_ATTRS_NONE), ==, MEM_OK);
    g_assert_cmpuint(rb->host[0x7ffe], ==, 0x44);
    g_assert_cmphex(t->reg[0], ==, 0x1122);
    g_assert_cmpint(as_write(&vm->memory, 0x8010, &v, 4, MEM_ATTRS_NONE), ==, MEM_OK);
    g_assert_cmpuint(rb->host[0x8010], ==, 0x44);
    /* the last byte of the space */
    as_store(&vm->memory, ~(uint64_t)0, 0x5a, 1, MEM_ATTRS_NONE, &res);
    g_assert_cmpint(res, ==, MEM_OK);
    g_assert_cmphex(rb->host[0xfffff], ==, 0x5a);
    /* ROM reads, and ignores writes */
    rb->host[0x4000] = 0x77;
    as_store(&vm->memory, 0x20000, 1, 1, MEM_ATTRS_NONE, &res);
    g_assert_cmphex(as_load(&vm->memory, 0x20000, 1, MEM_ATTRS_NONE, &res), ==, 0x77);
    /* nobody: ones, and an error */
    g_assert_cmpint(as_read(&vm->memory, 0x30000, &got, 4, MEM_ATTRS_NONE), ==, MEM_DECODE_ERROR);
    g_assert_cmphex(got, ==, 0xffffffff);
    /* a map ends where the device begins */
    len = 0x10000;
    g_assert_true(as_map(&vm->memory, 0x1000, &len, true, MEM_ATTRS_NONE) == rb->host + 0x1000);
    g_assert_cmphex(len, ==, 0x7000);
    len = 4;
    g_assert_null(as_map(&vm->memory, 0x20000, &len, true, MEM_ATTRS_NONE));
    g_assert_nonnull(as_map(&vm->memory, 0x20000, &len, false, MEM_ATTRS_NONE));
    g_assert_null(as_map(&vm->memory, 0x8000, &len, false, MEM_ATTRS_NONE));
    /* moving and hiding */
    mem_region_set_address(&t->dev.mmio[0], 0x9000);
    g_assert_true(address_space_lookup(&vm->memory, 0x8000)->mr == &ram);
    mem_region_set_enabled(&t->dev.mmio[0], false);
    g_assert_true(address_space_lookup(&vm->memory, 0x9000)->mr == &ram);
    vm_destroy(vm);
    loop_free(loop);
}

static void test_access_widths(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct thing *t = thing_new(vm, NULL, 0x1000);

    t->reg[0] = 0x44332211;
    t->reg[1] = 0x88776655;
    /* narrow ones are done on the whole register, wide ones in pieces */
    g_assert_cmphex(as_load(&vm->memory, 0x1001, 1, MEM_ATTRS_NONE, NULL), ==, 0x22);
    g_assert_cmpuint(t->last_size, ==, 4);
    g_assert_cmpuint(t->last_offset, ==, 0);
    g_assert_cmphex(as_load(&vm->memory, 0x1000, 8, MEM_ATTRS_NONE, NULL), ==, 0x8877665544332211);
    g_assert_cmphex(as_load(&vm->memory, 0x1002, 4, MEM_ATTRS_NONE, NULL), ==, 0x66554433);
    t->writes = 0;
    as_store(&vm->memory, 0x1000, 0x0102030405060708, 8, MEM_ATTRS_NONE, NULL);
    g_assert_cmpuint(t->writes, ==, 2);
    g_assert_cmphex(t->reg[1], ==, 0x01020304);
    vm_destroy(vm);
    loop_free(loop);
}

static void test_dma_reentry(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct thing *a = thing_new(vm, NULL, 0x1000), *b = thing_new(vm, NULL, 0x2000);

    /* into itself: refused */
    a->dma_to = 0x1004;
    as_store(&vm->memory, 0x100c, 1, 4, MEM_ATTRS_NONE, NULL);
    g_assert_cmpint(a->dma_result, ==, MEM_DEVICE_ERROR);
    g_assert_cmphex(a->reg[1], ==, 0);
    /* into another: later, when no lock is held */
    a->dma_to = 0x2004;
    as_store(&vm->memory, 0x100c, 1, 4, MEM_ATTRS_NONE, NULL);
    g_assert_cmphex(b->reg[1], ==, 0);
    while (loop_step(loop, false))
        ;
    g_assert_cmphex(b->reg[1], ==, 0x12345678);
    /* without end: cut off, and the device is told */
    for (unsigned n = 0; n < 100000 && a->dma_result == MEM_OK; n++)
        as_store(&vm->memory, 0x100c, 1, 4, MEM_ATTRS_NONE, NULL);
    g_assert_cmpint(a->dma_result, ==, MEM_DEVICE_ERROR);
    while (loop_step(loop, false))
        ;
    as_store(&vm->memory, 0x100c, 1, 4, MEM_ATTRS_NONE, NULL);
    g_assert_cmpint(a->dma_result, ==, MEM_OK);
    while (loop_step(loop, false))
        ;
    vm_destroy(vm);
    loop_free(loop);
}

static void test_dirty_pages(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct ram_block *rb = ram_block_new(vm, "ram", 1 << 16, true, NULL);
    struct mem_region ram;
    uint64_t off;
    uint8_t buf[8192] = { 1 };

    g_assert_cmpint(rb->fd, >=, 0);
    mem_region_init_ram(&ram, vm, NULL, "ram", rb, 0, 1 << 16);
    mem_region_add(&vm->system_memory, 0, &ram, 0);
    rb->page_flags[3] = PAGE_HAS_CODE;
    code_writes = 0;
    as_write(&vm->memory, 0x800, buf, sizeof(buf), MEM_ATTRS_NONE);
    g_assert_cmpuint(code_writes, ==, 0);
    g_assert_cmpuint(rb->page_flags[0] & rb->page_flags[1] & rb->page_flags[2] & PAGE_DIRTY, ==, PAGE_DIRTY);
    g_assert_cmpuint(rb->page_flags[3] & PAGE_DIRTY, ==, 0);
    as_write(&vm->memory, 0x2fff, buf, 2, MEM_ATTRS_NONE);
    g_assert_cmpuint(code_writes, ==, 1);
    g_assert_true(ram_block_of(vm, rb->host + 0x1234, &off) == rb);
    g_assert_cmphex(off, ==, 0x1234);
    g_assert_null(ram_block_of(vm, &off, &off));
    vm_destroy(vm);
    loop_free(loop);
}

/* ---- devices */

static void test_properties(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct error err = ERROR_INIT;
    struct device *d = device_new(vm, "thing", "t0", &err);
    struct thing *t = thing(d);
    g_autofree char *addr = NULL, *help = NULL, *list = NULL;

    g_assert_true(t->flag);
    g_assert_cmpuint(t->byte, ==, 5);
    g_assert_cmpuint(t->size, ==, 65536);
    g_assert_cmpuint(t->mode, ==, 1);
    g_assert_cmphex(t->bits, ==, 8);
    g_assert_cmpint(t->addr, ==, -1);
    g_assert_true(device_set(d, "addr", "1c.2", &err));
    g_assert_cmpint(t->addr, ==, 0x1c << 3 | 2);
    addr = device_get(d, "addr", &err);
    g_assert_cmpstr(addr, ==, "1c.2");
    g_assert_true(device_set(d, "addr", "0x1f", &err));
    g_assert_cmpint(t->addr, ==, 0x1f << 3);
    g_assert_true(device_set(d, "mac", "52:54:00:ab:cd:ef", &err));
    g_assert_cmphex(t->mac[5], ==, 0xef);
    g_assert_true(device_set(d, "uuid", "01020304-0506-0708-090a-0b0c0d0e0f10", &err));
    g_assert_cmphex(t->uuid[15], ==, 0x10);
    g_assert_true(device_set(d, "auto", "off", &err));
    g_assert_cmpuint(t->auto_, ==, OOA_OFF);
    g_assert_true(device_set(d, "text", "a", &err) && device_set(d, "text", "b", &err));
    g_assert_cmpstr(t->text, ==, "b");
#define REFUSED(prop, value) do { g_assert_false(device_set(d, prop, value, &err)); g_assert_nonnull(err.hint); error_clear(&err); } while (0)
    REFUSED("byte", "256");
    REFUSED("byte", "x");
    REFUSED("mode", "medium");
    REFUSED("addr", "20");
    REFUSED("addr", "1.8");
    REFUSED("addr", "");
    REFUSED("mac", "52:54:00:ab:cd");
    REFUSED("mac", "52:54:00:ab:cd:ef:00");
    REFUSED("uuid", "01020304");
    REFUSED("flag", "perhaps");
    g_assert_false(device_set(d, "sise", "1", &err));
    g_assert_cmpstr(err.msg, ==, "Property 'thing.sise' not found");
    g_assert_nonnull(strstr(err.hint, "'size'"));
    error_clear(&err);
    g_assert_null(device_new(vm, "thin", NULL, &err));
    g_assert_nonnull(strstr(err.hint, "'thing'"));
    error_clear(&err);
    g_assert_null(device_new(vm, "thing", "t0", &err));
    error_clear(&err);
    help = device_help("thing");
    g_assert_nonnull(strstr(help, "byte=<uint8>"));
    list = device_help(NULL);
    g_assert_nonnull(strstr(list, "name \"thing\", alias \"ding\", desc \"a thing\""));
    vm_destroy(vm);
    loop_free(loop);
}

static struct json_object *last_event;
static char *last_event_name;
static void on_event(void *opaque, const char *name, struct json_object *data)
{
    g_free(last_event_name);
    last_event_name = g_strdup(name);
    if (last_event)
        json_object_put(last_event);
    last_event = json_object_get(data);
}

static void test_create_and_remove(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct error err = ERROR_INIT;
    struct json_object *o = json_tokener_parse("{\"driver\": \"ding\", \"id\": \"x\", \"byte\": 9, \"flag\": false}"), *v;
    struct device *d = device_create(vm, o, false, &err);

    g_assert_cmpstr(err.msg, ==, NULL);
    g_assert_cmpuint(thing(d)->byte, ==, 9);
    g_assert_false(thing(d)->flag);
    g_assert_cmpstr(d->path, ==, "/machine/peripheral/x");
    device_reset_tree(vm, RESET_COLD);
    g_assert_cmpint(thing(d)->phases, ==, 123);
    v = qom_get(vm, "/machine/peripheral/x", "byte", &err);
    g_assert_cmpint(json_object_get_int(v), ==, 9);
    json_object_put(v);
    v = qom_list(vm, "/machine/peripheral", &err);
    g_assert_cmpstr(option_str(json_object_array_get_idx(v, 1), "type", ""), ==, "child<thing>");
    json_object_put(v);
    g_assert_null(qom_list(vm, "/machine/peripheral/y", &err));
    g_assert_cmpint(err.cls, ==, ERR_DEVICE_NOT_FOUND);
    error_clear(&err);
    vm_listen(vm, on_event, NULL);
    device_remove_later(d);
    while (loop_step(loop, false))
        ;
    g_assert_cmpstr(last_event_name, ==, "DEVICE_DELETED");
    g_assert_null(device_find(vm, "x"));
    json_object_object_add(o, "byte", json_object_new_int(99));
    g_assert_null(device_create(vm, o, false, &err));
    g_assert_cmpstr(err.msg, ==, "99 is not liked");
    error_clear(&err);
    g_assert_null(vm->devices);
    json_object_put(o);
    vm_destroy(vm);
    loop_free(loop);
}

/* ---- lines */

struct line_log { int n, levels[8]; struct irq *irq; };
static void line_seen(void *opaque, int n, int level)
{
    struct line_log *l = opaque;

    l->levels[l->n++ & 7] = level;
    if (level && l->n == 3)
        irq_set(l->irq, 0);     /* from within: told after */
}

static void test_lines(void)
{
    struct line_log l = { 0 };

    l.irq = irq_new(line_seen, &l, 3);
    irq_set(l.irq, 1);
    irq_set(l.irq, 1);
    irq_set(l.irq, 0);
    g_assert_cmpint(l.n, ==, 2);
    irq_set(l.irq, 1);
    g_assert_cmpint(l.n, ==, 4);
    g_assert_cmpint(irq_level(l.irq), ==, 0);
    irq_set(NULL, 1);
    irq_free(l.irq);
}

/* ---- clock */

static void test_clock_stops_with_the_machine(void)
{
    unsigned steps;
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 0);
    struct thing *t = thing_new(vm, NULL, 0x1000);
    struct error err = ERROR_INIT;
    int64_t a, b, until;

    a = vm_clock_ns(vm);
    usleep(3000);
    g_assert_cmpint(vm_clock_ns(vm), ==, a);
    vm_timer_set(t->timer, 5000000);
    usleep(8000);
    while (loop_step(loop, false))
        ;
    g_assert_cmpuint(t->ticks, ==, 0);
    g_assert_true(vm_start(vm, &err));
    until = host_clock_ns() + 120000000000;
    while (!t->ticks && host_clock_ns() < until)
        loop_step(loop, true);
    g_assert_cmpuint(t->ticks, ==, 1);
    g_assert_cmpint(t->tick_at, >=, 5000000);
    vm_stop(vm, RUN_PAUSED);
    b = vm_clock_ns(vm);
    usleep(20000);      /* twenty periods pass while it stands */
    g_assert_cmpint(vm_clock_ns(vm), ==, b);
    g_assert_true(vm_start(vm, &err));
    usleep(10000);
    b = vm_clock_ns(vm);
    t->ticks = 0;
    while (loop_step(loop, false))
        ;
    g_assert_cmpuint(t->ticks, <=, 1 + (vm_clock_ns(vm) - b) / 1000000);        /* late ticks do not burst */
    /* at the end of time: the loop has nothing to do until then */
    vm_timer_set(t->timer, INT64_MAX);
    usleep(5000);
    for (steps = 0; steps < 1000 && loop_step(loop, false); steps++)
        ;
    g_assert_cmpuint(steps, <, 1000);
    vm_timer_cancel(t->timer);
    g_assert_cmpint(vm_timer_expiry(t->timer), ==, -1);
    vm_destroy(vm);
    loop_free(loop);
}

/* ---- life */

static void test_two_machines(void)
{
    struct loop *loop = loop_new("test");
    struct vm *a = machine(loop, 2), *b = machine(loop, 1);
    struct error err = ERROR_INIT;
    int64_t until;
    unsigned seen;

    g_assert_cmpuint(((struct test_board *)a->board_data)->knob, ==, 7);
    thing_new(a, "t", 0x1000)->reg[0] = 1;
    thing_new(b, "t", 0x1000)->reg[0] = 2;
    g_assert_cmpuint(as_load(&a->memory, 0x1000, 4, MEM_ATTRS_NONE, NULL), ==, 1);
    g_assert_cmpuint(as_load(&b->memory, 0x1000, 4, MEM_ATTRS_NONE, NULL), ==, 2);
    g_assert_true(vm_start(a, &err) && vm_start(b, &err));
    g_assert_cmpint(a->state, ==, RUN_RUNNING);
    vm_stop(a, RUN_PAUSED);
    g_assert_true(a->vcpus[0]->stopped && a->vcpus[1]->stopped);
    g_assert_false(b->vcpus[0]->stopped);
    seen = spins;
    until = host_clock_ns() + 120000000000;
    while (spins == seen && host_clock_ns() < until)
        usleep(100);
    g_assert_cmpuint(spins, !=, seen);          /* b goes on */
    vm_destroy(b);
    seen = spins;
    usleep(2000);
    g_assert_cmpuint(spins, ==, seen);
    for (int i = 0; i < 50; i++) {              /* stop and cont do not race */
        g_assert_true(vm_start(a, &err));
        vm_stop(a, RUN_PAUSED);
    }
    vm_destroy(a);
    loop_free(loop);
}

static void test_requests(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, 1);
    struct error err = ERROR_INIT;
    struct thing *t = thing_new(vm, NULL, 0x1000);

    vm_listen(vm, on_event, NULL);
    g_assert_true(vm_start(vm, &err));
    g_assert_cmpstr(last_event_name, ==, "RESUME");
    t->phases = 0;
    vm_request_reset(vm, RESET_GUEST);
    while (loop_step(loop, false))
        ;
    g_assert_cmpstr(last_event_name, ==, "RESET");
    g_assert_cmpstr(option_str(last_event, "reason", ""), ==, "guest-reset");
    g_assert_cmpint(t->phases, ==, 123);
    g_assert_true(vm_running(vm));
    vm->config.no_reboot = true;
    vm_request_reset(vm, RESET_GUEST);
    while (loop_step(loop, false))
        ;
    g_assert_cmpstr(last_event_name, ==, "SHUTDOWN");
    g_assert_true(vm->quitting);
    vm->quitting = false;
    vm->state = RUN_PAUSED;
    vm->config.no_shutdown = true;
    g_assert_true(vm_start(vm, &err));
    vm_request_stop(vm, STOP_GUEST_SHUTDOWN, 3);
    while (loop_step(loop, false))
        ;
    g_assert_cmpstr(last_event_name, ==, "STOP");
    g_assert_cmpint(vm->state, ==, RUN_SHUTDOWN);
    g_assert_false(vm->quitting);
    g_assert_false(vm_start(vm, &err));
    error_clear(&err);
    vm_destroy(vm);
    loop_free(loop);
}

static void test_bad_machine(void)
{
    struct loop *loop = loop_new("test");
    struct vm_config c = { .machine = "tesst", .accel = accel_list() };
    struct error err = ERROR_INIT;

    g_assert_null(vm_create(&c, loop, &err));
    g_assert_cmpstr(err.msg, ==, "unsupported machine type: \"tesst\"");
    g_assert_nonnull(strstr(err.hint, "'test'"));
    error_clear(&err);
    c.machine = "test";
    c.cpus = 5;
    g_assert_null(vm_create(&c, loop, &err));
    error_clear(&err);
    c.cpus = 1;
    c.machine_opts = json_tokener_parse("{\"knop\": \"1\"}");
    g_assert_null(vm_create(&c, loop, &err));
    g_assert_nonnull(strstr(err.hint, "'knob'"));
    error_clear(&err);
    json_object_put(c.machine_opts);
    loop_free(loop);
}

static void test_topology(void)
{
    static const uint32_t ids[12] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
    struct loop *loop = loop_new("test");
    struct vm_config c = { .machine = "test-wide", .accel = accel_list(), .cpus = 12, .sockets = 2, .cores = 3, .threads = 2 };
    struct error err = ERROR_INIT;
    struct vm *vm = vm_create(&c, loop, &err);

    g_assert_cmpstr(err.msg, ==, NULL);
    for (unsigned i = 0; i < 12; i++)
        g_assert_cmpuint(vm->vcpus[i]->arch_id, ==, ids[i]);
    g_assert_cmpint(vm->vcpus[11]->socket, ==, 1);
    g_assert_cmpint(vm->vcpus[11]->core, ==, 2);
    g_assert_cmpint(vm->vcpus[11]->thread, ==, 1);
    vm_destroy(vm);
    loop_free(loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/overlap-and-alias", test_overlap_and_alias);
    g_test_add_func("/memory/access-widths", test_access_widths);
    g_test_add_func("/memory/dma-reentry", test_dma_reentry);
    g_test_add_func("/memory/dirty-pages", test_dirty_pages);
    g_test_add_func("/device/properties", test_properties);
    g_test_add_func("/device/create-and-remove", test_create_and_remove);
    g_test_add_func("/irq/lines", test_lines);
    g_test_add_func("/clock/stops-with-the-machine", test_clock_stops_with_the_machine);
    g_test_add_func("/vm/two-machines", test_two_machines);
    g_test_add_func("/vm/requests", test_requests);
    g_test_add_func("/vm/bad-machine", test_bad_machine);
    g_test_add_func("/vm/topology", test_topology);
    return g_test_run();
}
