/* x86 boards without running them: ACPI tables as the reference compiler reads them, fw_cfg, the memory map, resets. */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rhea/device/fw_cfg.h"
#include "rhea/vm/pci_host.h"
#include "rhea/vm/qom.h"
#include "rhea/vm/vm.h"

static void idle_loop(struct vcpu *v)
{
    while (vcpu_park(v, NULL))
        while (!v->stop_requested)
            usleep(100);
}

ACCEL = { .name = "still", .vcpu_loop = idle_loop };

static struct vm *machine(struct loop *loop, const char *name, unsigned cpus, uint64_t ram, const char *opts)
{
    struct vm_config c = {
        .guest = "x86_64", .machine = name, .cpus = cpus, .ram_size = ram, .accel = json_tokener_parse("[{\"accel\": \"still\"}]"),
        .machine_opts = opts ? json_tokener_parse(opts) : NULL,
    };
    struct error err = ERROR_INIT;
    struct vm *vm;
    g_autofree char *kernel = g_build_filename(g_get_tmp_dir(), "rhea-test-kernel-XXXXXX", NULL);
    int fd = g_mkstemp(kernel);
    uint8_t k[4096] = { 0 };

    /* the smallest bzImage: one setup sector, protocol 2.15, 64-bit entry */
    k[0x1f1] = 1;
    memcpy(k + 0x1fe, "\x55\xaa\xeb\x66HdrS\x0f\x02", 10);
    k[0x211] = 1;
    memcpy(k + 0x22c, "\xff\xff\xff\x7f", 4);
    k[0x234] = 1;
    k[0x236] = 3;
    memcpy(k + 0x238, "\xff\x07\0\0", 4);
    k[0x25a] = 0x10;            /* preferred address 1 MiB */
    g_assert_cmpint(write(fd, k, sizeof(k)), ==, sizeof(k));
    close(fd);
    c.kernel = kernel;
    vm = vm_create(&c, loop, &err);
    g_assert_cmpstr(err.msg, ==, NULL);
    g_assert_nonnull(vm);
    unlink(kernel);
    vm->config.kernel = "(gone)";
    json_object_put(c.accel);
    if (c.machine_opts)
        json_object_put(c.machine_opts);
    return vm;
}

static uint64_t peek(struct vm *vm, uint64_t at, unsigned n)
{
    return as_load(&vm->memory, at, n, MEM_ATTRS_NONE, NULL);
}

static uint8_t sum(struct vm *vm, uint64_t at, unsigned n)
{
    uint8_t s = 0;

    while (n--)
        s += (uint8_t)peek(vm, at++, 1);
    return s;
}

/* Writes the table at `at` to DIR/SIG.dat. */
static void dump(struct vm *vm, uint64_t at, const char *dir)
{
    uint32_t len = (uint32_t)peek(vm, at + 4, 4);
    g_autofree char *data = g_malloc(len);
    g_autofree char *path = NULL;
    char sig[5] = { 0 };

    as_read(&vm->memory, at, data, len, MEM_ATTRS_NONE);
    memcpy(sig, data, 4);
    path = g_strdup_printf("%s/%s.dat", dir, sig);
    g_assert_true(g_file_set_contents(path, data, len, NULL));
}

static void run(const char *dir, const char *command)
{
    g_autofree char *whole = g_strdup_printf("cd '%s' && %s", dir, command);
    int status = system(whole);

    if (status) {
        g_autofree char *cat = g_strdup_printf("cat '%s'/log >&2", dir);

        if (system(cat))
            g_test_message("no log");
    }
    g_assert_cmpint(status, ==, 0);
}

/* Sums, and iasl's opinion of each table; acpiexec runs _CRS, _PRT, _STA, _INI of all devices. */
static void check_acpi(struct vm *vm)
{
    char dir[] = "/tmp/rhea-acpi-XXXXXX";
    uint64_t rsdp = 0xe0000, xsdt;
    unsigned n;

    g_assert_nonnull(g_mkdtemp(dir));
    g_assert_cmpuint(sum(vm, rsdp, 20), ==, 0);
    g_assert_cmpuint(sum(vm, rsdp, 36), ==, 0);
    xsdt = peek(vm, rsdp + 24, 8);
    n = (unsigned)((peek(vm, xsdt + 4, 4) - 36) / 8);
    g_assert_cmpuint(n, >=, 3);
    for (unsigned i = 0; i < n; i++) {
        uint64_t t = peek(vm, xsdt + 36 + 8 * i, 8);

        g_assert_cmpuint(sum(vm, t, (unsigned)peek(vm, t + 4, 4)), ==, 0);
        dump(vm, t, dir);
        if (peek(vm, t, 4) == 0x50434146) {     /* FACP */
            uint64_t dsdt = peek(vm, t + 140, 8);

            g_assert_cmpuint(dsdt, ==, peek(vm, t + 40, 4));
            g_assert_cmpuint(sum(vm, dsdt, (unsigned)peek(vm, dsdt + 4, 4)), ==, 0);
            dump(vm, dsdt, dir);
        }
    }
    run(dir, "iasl -d *.dat >log 2>&1 && ! grep -E 'rror|arning|nvalid' log");
    run(dir, "iasl -vw 3141 -vw 2089 DSDT.dsl >log2 2>&1; cat log2 >>log; grep -q 'Compilation successful. 0 Errors, 0 Warnings' log2");
    run(dir, "acpiexec -b 'execute \\_PIC 1,namespace,integrity,resources *' DSDT.dat >log 2>&1 && ! grep -E 'AE_[A-Z]|Error|Exception' log");
    {
        g_autofree char *rm = g_strdup_printf("rm -rf '%s'", dir);

        g_assert_cmpint(system(rm), ==, 0);
    }
}

static void test_acpi(gconstpointer name)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, name, 4, 256 << 20, NULL);

    check_acpi(vm);
    vm_destroy(vm);
    loop_free(loop);
}

static void test_q35_map(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, "q35", 1, UINT64_C(4) << 30, NULL);
    g_autofree char *text = pci_info_text(vm), *tree = mem_tree_print(vm, true), *qtree = qtree_text(vm);

    /* 2 GiB below the hole, the rest from 4 GiB on */
    g_assert_true(address_space_lookup(&vm->memory, 0x7fffffff)->mr->kind == MEMK_RAM);
    g_assert_null(address_space_lookup(&vm->memory, 0x80000000));
    g_assert_true(address_space_lookup(&vm->memory, 0x17fffffff)->mr->kind == MEMK_RAM);
    g_assert_null(address_space_lookup(&vm->memory, 0x180000000));
    /* ECAM and PM are where the tables say */
    g_assert_cmphex(peek(vm, 0xfed00000, 8), ==, 0x9896808086a201);      /* HPET: 10 ns a tick */
    g_assert_cmphex(peek(vm, 0xb0000000, 4), ==, 0x29c08086);
    g_assert_cmphex(as_load(&vm->io, 0x604, 2, MEM_ATTRS_NONE, NULL), ==, 1);
    g_assert_cmphex(peek(vm, 0xb0000000 + (0xf8 << 12), 4), ==, 0x29188086);
    g_assert_nonnull(strstr(text, "Host bridge: PCI device 8086:29c0"));
    g_assert_nonnull(strstr(tree, "ram-below-4g"));
    g_assert_nonnull(strstr(qtree, "bus: pcie.0"));
    vm_destroy(vm);
    loop_free(loop);
}

static void test_poweroff_and_reset(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, "q35", 2, 64 << 20, NULL);
    struct error err = ERROR_INIT;

    g_assert_true(vm_start(vm, &err));
    as_store(&vm->memory, 0x5000, 0x1234, 4, MEM_ATTRS_NONE, NULL);
    as_store(&vm->memory, 0xe0000, 0, 4, MEM_ATTRS_NONE, NULL);         /* the guest ruins a table */
    as_store(&vm->io, 0xcf9, 6, 1, MEM_ATTRS_NONE, NULL);
    while (loop_step(loop, false))
        ;
    g_assert_true(vm_running(vm));
    g_assert_cmphex(peek(vm, 0xe0000, 4), ==, 0x20445352);              /* put back */
    g_assert_cmphex(peek(vm, 0xb0000000, 4), ==, 0x29c08086);
    as_store(&vm->io, 0x604, 1 << 13, 2, MEM_ATTRS_NONE, NULL);         /* S5 */
    while (loop_step(loop, false))
        ;
    g_assert_true(vm->quitting);
    g_assert_cmpint(vm->exit_code, ==, 0);
    vm_destroy(vm);
    loop_free(loop);
}

static void test_refusals(void)
{
    static const char *const bad[] = { "{\"usb\": \"on\"}", "{\"smm\": \"on\"}", "{\"hpett\": \"off\"}", "{\"acpi\": \"perhaps\"}" };
    struct loop *loop = loop_new("test");

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct vm_config c = { .guest = "x86_64", .machine = "q35", .machine_opts = json_tokener_parse(bad[i]), .kernel = "/nonexistent" };
        struct error err = ERROR_INIT;

        g_assert_null(vm_create(&c, loop, &err));
        g_assert_nonnull(err.hint);
        error_clear(&err);
        json_object_put(c.machine_opts);
    }
    loop_free(loop);
}

static void out(struct vm *vm, uint16_t port, uint64_t v, unsigned n)
{
    as_store(&vm->io, port, v, n, MEM_ATTRS_NONE, NULL);
}

static uint8_t in8(struct vm *vm, uint16_t port)
{
    return (uint8_t)as_load(&vm->io, port, 1, MEM_ATTRS_NONE, NULL);
}

static void put_be(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * (n - 1 - i));
}

/* DMA descriptor at 1 MiB, run; returns the status it leaves. */
static uint32_t fw_dma(struct vm *vm, uint32_t control, uint32_t len, uint64_t to)
{
    uint8_t d[16];

    put_be(d, control, 4);
    put_be(d + 4, len, 4);
    put_be(d + 8, to, 8);
    as_write(&vm->memory, 0x200000, d, 16, MEM_ATTRS_NONE);
    out(vm, 0x518, __builtin_bswap32(0x200000), 4);
    return __builtin_bswap32((uint32_t)peek(vm, 0x200000, 4));
}

static void test_fw_cfg(void)
{
    struct loop *loop = loop_new("test");
    struct vm *vm = machine(loop, "q35", 3, 64 << 20, NULL);
    struct error err = ERROR_INIT;
    struct device *fw = vm->fw_cfg;
    char sig[5] = { 0 };
    unsigned n;

    g_assert_true(fw_cfg_add_file(fw, "opt/b", g_strdup("bbb"), 3, &err));
    g_assert_true(fw_cfg_add_file(fw, "opt/a", g_strdup("a"), 1, &err));
    g_assert_true(fw_cfg_add_file(fw, "opt/b", g_strdup("BB"), 2, &err));
    out(vm, 0x510, FW_CFG_SIGNATURE, 2);
    for (int i = 0; i < 4; i++)
        sig[i] = (char)in8(vm, 0x511);
    g_assert_cmpstr(sig, ==, "QEMU");
    g_assert_cmpuint(in8(vm, 0x511), ==, 0);    /* past the end */
    g_assert_cmphex(as_load(&vm->io, 0x514, 4, MEM_ATTRS_NONE, NULL), ==, 0x554d4551);
    /* the directory by DMA: count, then entries by name */
    g_assert_cmpuint(fw_dma(vm, FW_CFG_FILE_DIR << 16 | 8 | 2, 4 + 2 * 64, 0x201000), ==, 0);
    n = __builtin_bswap32((uint32_t)peek(vm, 0x201000, 4));
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmphex(peek(vm, 0x201004 + 8 + 4, 1), ==, 'a');
    g_assert_cmpuint(__builtin_bswap32((uint32_t)peek(vm, 0x201044, 4)), ==, 2);
    /* writing is refused; DMA to nowhere ends with an error */
    g_assert_cmpuint(fw_dma(vm, FW_CFG_ID << 16 | 8 | 16, 4, 0x201000), ==, 1);
    g_assert_cmpuint(fw_dma(vm, FW_CFG_ID << 16 | 8 | 2, 4, 0xd0000000), ==, 1);
    g_assert_cmpuint(fw_dma(vm, FW_CFG_ID << 16 | 8 | 2, 0xffffffff, 0x3000000), ==, 1);
    /* skip, then the rest */
    g_assert_cmpuint(fw_dma(vm, 0 << 16 | 8 | 4, 2, 0), ==, 0);
    g_assert_cmpuint(fw_dma(vm, 2, 2, 0x201000), ==, 0);
    g_assert_cmphex(peek(vm, 0x201000, 2), ==, 'M' | 'U' << 8);
    g_assert_cmpuint(fw_dma(vm, 4, 0xffffffff, 0), ==, 0);
    g_assert_cmpuint(fw_dma(vm, 2, 2, 0x201000), ==, 0);
    g_assert_cmphex(peek(vm, 0x201000, 2), ==, 0);
    vm_destroy(vm);
    loop_free(loop);
}

/* Content of a fw_cfg file, by the registers. */
static uint8_t *fw_file(struct vm *vm, const char *name, size_t *len)
{
    uint8_t e[64], *data;
    unsigned n;

    out(vm, 0x510, FW_CFG_FILE_DIR, 2);
    for (unsigned i = 0; i < 4; i++)
        e[i] = in8(vm, 0x511);
    n = e[3];
    for (unsigned k = 0; k < n; k++) {
        for (unsigned i = 0; i < 64; i++)
            e[i] = in8(vm, 0x511);
        if (strcmp((char *)e + 8, name) == 0)
            break;
        g_assert_cmpuint(k + 1, <, n);
    }
    *len = (size_t)e[1] << 16 | (size_t)e[2] << 8 | e[3];
    data = g_malloc(*len);
    out(vm, 0x510, (unsigned)e[4] << 8 | e[5], 2);
    for (size_t i = 0; i < *len; i++)
        data[i] = in8(vm, 0x511);
    return data;
}

/* What dmidecode makes of the SMBIOS tables, and that the loader's script puts ACPI together as acpi_place() does. */
static void check_smbios(struct vm *vm)
{
    char dir[] = "/tmp/rhea-smbios-XXXXXX";
    size_t len, alen;
    g_autofree uint8_t *t = fw_file(vm, "etc/smbios/smbios-tables", &len), *a = fw_file(vm, "etc/smbios/smbios-anchor", &alen);
    g_autofree char *dump = NULL, *rm = NULL;
    g_autoptr(GByteArray) all = g_byte_array_new();

    g_assert_cmpuint(alen, ==, 24);
    a[5] -= 32;                 /* the checksum, with the table at 32 */
    a[16] = 32;
    g_byte_array_append(all, a, 24);
    g_byte_array_append(all, (const uint8_t[8]){ 0 }, 8);
    g_byte_array_append(all, t, (guint)len);
    g_assert_nonnull(g_mkdtemp(dir));
    dump = g_build_filename(dir, "dump", NULL);
    g_assert_true(g_file_set_contents(dump, (char *)all->data, all->len, NULL));
    run(dir, "dmidecode --from-dump dump >log 2>&1 && grep -q 'Product Name: Standard PC' log && grep -q 'Size: 64 MB' log && "
             "grep -q 'End Of Table' log && ! grep -E 'BAD|TRUNCATED|Wrong|OUT OF SPEC|nvalid' log");
    rm = g_strdup_printf("rm -rf '%s'", dir);
    g_assert_cmpint(system(rm), ==, 0);
}

static void check_loader(struct vm *vm)
{
    size_t n, tables_len, rsdp_len;
    g_autofree uint8_t *s = fw_file(vm, "etc/table-loader", &n), *tables = fw_file(vm, "etc/acpi/tables", &tables_len);
    g_autofree uint8_t *rsdp = fw_file(vm, "etc/acpi/rsdp", &rsdp_len);
    uint32_t command, a, b, c;
    uint64_t v, xsdt;
    unsigned sums = 0;

    for (size_t i = 0; i + 128 <= n; i += 128) {
        uint8_t *file = strcmp((char *)s + i + 4, "etc/acpi/rsdp") ? tables : rsdp, total = 0;

        memcpy(&command, s + i, 4);
        memcpy(&a, s + i + (command == 2 ? 116 : 60), 4);
        memcpy(&b, s + i + 64, 4);
        memcpy(&c, s + i + 68, 4);
        if (command == 2) {     /* pointer: to where the tables "lie" */
            v = 0;
            memcpy(&v, file + a, s[i + 120]);
            g_assert_cmpuint(v, <, tables_len);
            v += 0x7000000;
            memcpy(file + a, &v, s[i + 120]);
        } else if (command == 3) {
            file[a] = 0;
            for (uint32_t k = 0; k < c; k++)
                total += file[b + k];
            file[a] = (uint8_t)-total;
            sums++;
        } else {
            g_assert_cmpuint(command, ==, 1);
        }
    }
    g_assert_cmpuint(sums, >=, 6);
    memcpy(&xsdt, rsdp + 24, 8);
    g_assert_cmpuint(xsdt - 0x7000000, <, tables_len);
    g_assert_cmpint(memcmp(tables + (xsdt - 0x7000000), "XSDT", 4), ==, 0);
}

static void test_firmware_rom(void)
{
    struct loop *loop = loop_new("test");
    struct vm_config c = { .guest = "x86_64", .machine = "pc-q35-7.2", .cpus = 1, .ram_size = 64 << 20,
                           .accel = json_tokener_parse("[{\"accel\": \"still\"}]") };
    struct error err = ERROR_INIT;
    g_autofree char *rom = g_malloc0(256 << 10);
    char path[] = "/tmp/rhea-test-rom-XXXXXX";
    int fd = mkstemp(path);
    struct vm *vm;

    rom[(256 << 10) - 16] = (char)0xea;
    g_assert_cmpint(write(fd, rom, 256 << 10), ==, 256 << 10);
    close(fd);
    c.bios = path;
    vm = vm_create(&c, loop, &err);
    unlink(path);
    g_assert_cmpstr(err.msg, ==, NULL);
    g_assert_cmphex(peek(vm, 0xfffffff0, 1), ==, 0xea);
    g_assert_cmphex(peek(vm, 0xffff0, 1), ==, 0xea);
    check_smbios(vm);
    check_loader(vm);
    as_store(&vm->memory, 0xfffffff0, 0, 1, MEM_ATTRS_NONE, NULL);
    g_assert_cmphex(peek(vm, 0xfffffff0, 1), ==, 0xea);
    vm_destroy(vm);
    json_object_put(c.accel);
    loop_free(loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/acpi/q35", "q35", test_acpi);
    g_test_add_data_func("/acpi/pc", "pc", test_acpi);
    g_test_add_data_func("/acpi/microvm", "microvm", test_acpi);
    g_test_add_func("/q35/map", test_q35_map);
    g_test_add_func("/q35/poweroff-and-reset", test_poweroff_and_reset);
    g_test_add_func("/pc/refusals", test_refusals);
    g_test_add_func("/fw-cfg", test_fw_cfg);
    g_test_add_func("/firmware/rom", test_firmware_rom);
    return g_test_run();
}
