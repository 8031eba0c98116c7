/* See firmware.h. The table loader's script: the interface that SeaBIOS and OVMF execute to place ACPI tables. */
#include <string.h>
#include "firmware.h"
#include "rhea/base/options.h"
#include "rhea/device/fw_cfg.h"
#include "rhea/device/rtc.h"
#include "rhea/vm/pci.h"

enum { ROM_MAX = 16 << 20, LEGACY_ROM = 128 << 10, LOADER_ENTRY = 128, LOADER_NAME = 56 };
enum { LOADER_ALLOCATE = 1, LOADER_POINTER = 2, LOADER_CHECKSUM = 3, ZONE_HIGH = 1, ZONE_FSEG = 2 };
enum { ACPI_TABLES_KEY = FW_CFG_ARCH_LOCAL, IRQ0_OVERRIDE_KEY = FW_CFG_ARCH_LOCAL + 2 };

bool x86_firmware_wanted(const struct x86_machine *m)
{
    return m->vm->config.bios || !m->vm->config.kernel;
}

bool x86_firmware_init(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    f->fw_cfg = device_new(m->vm, "fw_cfg_io", NULL, err);
    return f->fw_cfg && device_realize(f->fw_cfg, NULL, err);
}

/* ---- ACPI by the loader's script */

static void script_command(GByteArray *s, uint32_t command, const char *file, const char *pointee, const void *rest, size_t len)
{
    uint8_t e[LOADER_ENTRY] = { 0 };
    size_t at = 4;

    memcpy(e, &command, 4);
    g_strlcpy((char *)e + at, file, LOADER_NAME);
    at += LOADER_NAME;
    if (pointee) {
        g_strlcpy((char *)e + at, pointee, LOADER_NAME);
        at += LOADER_NAME;
    }
    memcpy(e + at, rest, len);
    g_byte_array_append(s, e, sizeof(e));
}

static const char tables_file[] = "etc/acpi/tables", rsdp_file[] = "etc/acpi/rsdp";

static GByteArray *loader_script(struct acpi_image *img)
{
    GByteArray *s = g_byte_array_new();
    struct { uint32_t align; uint8_t zone; } __attribute__((packed)) high = { 64, ZONE_HIGH }, fseg = { 16, ZONE_FSEG };

    script_command(s, LOADER_ALLOCATE, tables_file, NULL, &high, sizeof(high));
    script_command(s, LOADER_ALLOCATE, rsdp_file, NULL, &fseg, sizeof(fseg));
    for (unsigned i = 0; i < img->pointers->len; i++) {
        struct acpi_pointer *p = &g_array_index(img->pointers, struct acpi_pointer, i);
        struct { uint32_t offset; uint8_t size; } __attribute__((packed)) a = { p->at, p->size };

        script_command(s, LOADER_POINTER, p->rsdp ? rsdp_file : tables_file, tables_file, &a, sizeof(a));
    }
    for (unsigned i = 0; i < img->sums->len; i++) {
        struct acpi_sum *c = &g_array_index(img->sums, struct acpi_sum, i);
        struct { uint32_t offset, start, length; } a = { c->at, c->start, c->len };

        script_command(s, LOADER_CHECKSUM, c->rsdp ? rsdp_file : tables_file, NULL, &a, sizeof(a));
    }
    return s;
}

static bool add_bytes(struct x86_firmware *f, const char *name, GByteArray *b, struct error *err)
{
    size_t len = b->len;

    return fw_cfg_add_file(f->fw_cfg, name, g_byte_array_free(b, FALSE), len, err);
}

static bool add_acpi(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err)
{
    struct acpi_image img;
    GByteArray *script;
    bool ok;

    acpi_build(m, acpi, &img);
    script = loader_script(&img);
    ok = fw_cfg_add_file(f->fw_cfg, tables_file, g_memdup2(img.tables->data, img.tables->len), img.tables->len, err) &&
         fw_cfg_add_file(f->fw_cfg, rsdp_file, g_memdup2(img.rsdp, sizeof(img.rsdp)), sizeof(img.rsdp), err) &&
         add_bytes(f, "etc/table-loader", script, err);
    acpi_image_free(&img);
    return ok;
}

/* ---- what else firmware asks for */

static bool add_e820(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    GByteArray *b = g_byte_array_new();

    for (unsigned i = 0; i < m->ne820; i++) {
        struct x86_e820 e = m->e820[i];

        /* Firmware lays out the first MiB itself. */
        if (e.addr < 0x100000 && e.type != E820_RAM)
            continue;
        if (e.addr == 0)
            continue;
        if (e.addr == 0x100000) {
            e.size += e.addr;
            e.addr = 0;
        }
        g_byte_array_append(b, (uint8_t *)&e.addr, 8);
        g_byte_array_append(b, (uint8_t *)&e.size, 8);
        g_byte_array_append(b, (uint8_t *)&e.type, 4);
    }
    return add_bytes(f, "etc/e820", b, err);
}

static bool add_smbios(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    unsigned count, largest;
    GByteArray *t = x86_smbios_tables(m, &count, &largest);
    uint8_t anchor[24] = "_SM3_";
    uint32_t len = t->len;
    uint8_t sum = 0;

    anchor[6] = sizeof(anchor);
    anchor[7] = 3;
    anchor[10] = 1;
    memcpy(anchor + 12, &len, 4);
    for (unsigned i = 0; i < sizeof(anchor); i++)
        sum += anchor[i];
    anchor[5] = (uint8_t)-sum;
    return add_bytes(f, "etc/smbios/smbios-tables", t, err) &&
           fw_cfg_add_file(f->fw_cfg, "etc/smbios/smbios-anchor", g_memdup2(anchor, sizeof(anchor)), sizeof(anchor), err);
}

/* -kernel beside -bios: OVMF takes it from here. */
static bool add_kernel(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    const struct vm_config *c = &m->vm->config;
    const struct { const char *what, *path; uint16_t size_key, data_key; } files[] = {
        { "kernel", c->kernel, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA },
        { "initrd", c->initrd, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autoptr(GError) e = NULL;
        char *data;
        size_t len, setup;

        if (!files[i].path)
            continue;
        if (!g_file_get_contents(files[i].path, &data, &len, &e))
            return error_setf(err, ERR_GENERIC, "check the path and its permissions", "cannot read %s: %s", files[i].what, e->message);
        if (i == 0) {           /* a bzImage's real-mode part goes by keys of its own */
            setup = len > 0x1f1 ? (size_t)((uint8_t)data[0x1f1] ? (uint8_t)data[0x1f1] + 1 : 5) * 512 : 0;
            setup = MIN(setup, len);
            fw_cfg_add_int(f->fw_cfg, FW_CFG_SETUP_SIZE, setup, 4);
            fw_cfg_add_item(f->fw_cfg, FW_CFG_SETUP_DATA, g_memdup2(data, setup), setup);
            memmove(data, data + setup, len - setup);
            len -= setup;
        }
        fw_cfg_add_int(f->fw_cfg, files[i].size_key, len, 4);
        fw_cfg_add_item(f->fw_cfg, files[i].data_key, data, len);
    }
    if (c->kernel && c->append) {
        size_t len = strlen(c->append) + 1;

        fw_cfg_add_int(f->fw_cfg, FW_CFG_CMDLINE_SIZE, len, 4);
        fw_cfg_add_item(f->fw_cfg, FW_CFG_CMDLINE_DATA, g_strdup(c->append), len);
    }
    return true;
}

/* ---- boot order: bootindex= of devices as Open Firmware paths, -boot order= in CMOS */

struct boot_entry { int32_t index; const struct pci_device *pd; };

static gint by_index(gconstpointer a, gconstpointer b)
{
    const struct boot_entry *x = a, *y = b;

    return x->index < y->index ? -1 : x->index > y->index;
}

static GArray *boot_entries(struct vm *vm)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct boot_entry));

    for (struct device *d = vm->devices; d; d = d->next) {
        struct boot_entry e = { .pd = pci_device(d) };
        g_autofree char *text = NULL;

        if (!d->realized || !device_class_is(d->cls, "pci-device") || !device_prop_find(d->cls, "bootindex"))
            continue;
        text = device_get(d, "bootindex", NULL);
        e.index = (int32_t)g_ascii_strtoll(text, NULL, 10);
        if (e.index >= 0)
            g_array_append_val(all, e);
    }
    g_array_sort(all, by_index);
    return all;
}

static void path_of_bridges(GString *s, const struct pci_device *pd)
{
    if (!pd)
        return;
    path_of_bridges(s, pd->bus->bridge);
    g_string_append_printf(s, "/pci-bridge@%x", PCI_SLOT(pd->devfn));
    if (PCI_FUNC(pd->devfn))
        g_string_append_printf(s, ",%x", PCI_FUNC(pd->devfn));
}

static void path_of_device(GString *s, const struct pci_device *pd)
{
    uint8_t base = pd->config[PCI_CLASS + 1];

    g_string_append(s, "/pci@i0cf8");
    path_of_bridges(s, pd->bus->bridge);
    g_string_append_printf(s, "/%s@%x", base == 1 ? "scsi" : base == 2 ? "ethernet" : "pci", PCI_SLOT(pd->devfn));
    if (PCI_FUNC(pd->devfn))
        g_string_append_printf(s, ",%x", PCI_FUNC(pd->devfn));
    g_string_append(s, base == 1 ? "/disk@0,0" : base == 2 ? "/ethernet-phy@0" : "");
}

static bool add_boot_order(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    struct json_object *boot = m->vm->config.boot;
    g_autoptr(GArray) all = boot_entries(m->vm);
    g_autoptr(GString) s = g_string_new(NULL);
    bool menu = false, strict = false;

    if (boot && (!option_bool(boot, "menu", false, &menu, err) || !option_bool(boot, "strict", false, &strict, err)))
        return false;
    for (unsigned i = 0; i < all->len; i++) {
        path_of_device(s, g_array_index(all, struct boot_entry, i).pd);
        g_string_append_c(s, '\n');
    }
    if (strict)
        g_string_append(s, "HALT\n");
    fw_cfg_add_int(f->fw_cfg, FW_CFG_BOOT_MENU, menu, 2);
    return !s->len || fw_cfg_add_file(f->fw_cfg, "bootorder", g_memdup2(s->str, s->len + 1), s->len + 1, err);
}

/* CMOS 3Dh and 38h: up to three of floppy 1, disk 2, CD 3, network 4, a nibble each. */
static bool set_boot_letters(struct x86_machine *m, struct error *err)
{
    struct json_object *boot = m->vm->config.boot;
    const char *order = boot ? option_str(boot, "order", "cad") : "cad";
    uint32_t code = 0;

    for (unsigned i = 0; order[i]; i++) {
        static const char letters[] = "acdn";
        const char *at = strchr(letters, order[i]);

        if (!at || i == 3)
            return error_setf(err, ERR_GENERIC, "up to three of a (floppy), c (disk), d (CD), n (network)", "-boot order=%s", order);
        code |= (uint32_t)(at - letters + 1) << 4 * i;
    }
    if (m->rtc) {
        rtc_set_cmos(m->rtc, 0x3d, (uint8_t)code);
        rtc_set_cmos(m->rtc, 0x38, (uint8_t)(code >> 8 << 4));
    }
    return true;
}

/* -fw_cfg name=...,string=... or file=... */
static bool add_users(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    struct json_object *all = m->vm->config.fw_cfg;

    for (size_t i = 0; all && i < json_object_array_length(all); i++) {
        struct json_object *o = json_object_array_get_idx(all, i);
        const char *name = option_str(o, "name", NULL), *string = option_str(o, "string", NULL), *file = option_str(o, "file", NULL);
        g_autoptr(GError) e = NULL;
        char *data;
        size_t len;

        if (!name || !string == !file)
            return error_set(err, ERR_GENERIC, "-fw_cfg needs a name and one of string= and file=", "for example -fw_cfg name=opt/me/x,string=y");
        if (string) {
            len = strlen(string);
            data = g_strdup(string);
        } else if (!g_file_get_contents(file, &data, &len, &e)) {
            return error_setf(err, ERR_GENERIC, "check the path and its permissions", "-fw_cfg: %s", e->message);
        }
        if (!fw_cfg_add_file(f->fw_cfg, name, data, len, err))
            return false;
    }
    return true;
}

static bool fill(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err)
{
    const struct vm_config *c = &m->vm->config;
    static const uint8_t states[6] = { 128, 0, 0, 129 /* no S3 */, 0, 128 };

    fw_cfg_add_item(f->fw_cfg, FW_CFG_UUID, g_memdup2(m->vm->uuid, 16), 16);
    fw_cfg_add_int(f->fw_cfg, FW_CFG_RAM_SIZE, c->ram_size, 8);
    fw_cfg_add_int(f->fw_cfg, FW_CFG_NOGRAPHIC, 1, 2);
    fw_cfg_add_int(f->fw_cfg, FW_CFG_NB_CPUS, c->cpus, 2);
    fw_cfg_add_int(f->fw_cfg, FW_CFG_MAX_CPUS, c->max_cpus, 2);
    fw_cfg_add_int(f->fw_cfg, IRQ0_OVERRIDE_KEY, 1, 4);
    fw_cfg_add_int(f->fw_cfg, ACPI_TABLES_KEY, 0, 2);
    return (!acpi || add_acpi(m, f, acpi, err)) && add_e820(m, f, err) && add_smbios(m, f, err) && add_kernel(m, f, err) &&
           add_boot_order(m, f, err) && set_boot_letters(m, err) &&
           fw_cfg_add_file(f->fw_cfg, "etc/system-states", g_memdup2(states, 6), 6, err) && add_users(m, f, err);
}

/* ---- ROM */

static bool load_rom(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    const char *name = m->vm->config.bios ? m->vm->config.bios : "bios-256k.bin";
    g_autofree char *path = firmware_find(m->vm, name);
    g_autoptr(GError) e = NULL;
    size_t rom_size;

    if (!g_file_get_contents(path, (char **)&f->image, &f->size, &e))
        return error_setf(err, ERR_GENERIC, "install seabios (or ovmf and give -bios), or start a kernel with -kernel",
                          "could not load PC BIOS '%s': %s", name, e->message);
    if (f->size == 0 || f->size > ROM_MAX || f->size % 4096)
        return error_setf(err, ERR_GENERIC, "a ROM image has whole pages, up to 16 MiB", "'%s' is no firmware image: %zu bytes", path, f->size);
    rom_size = f->size;
    f->rom_ram = ram_block_new(m->vm, "pc.bios", rom_size, false, err);
    if (!f->rom_ram)
        return false;
    memcpy(f->rom_ram->host, f->image, f->size);
    mem_region_init_rom(&f->rom, m->vm, NULL, "pc.bios", f->rom_ram, 0, rom_size);
    mem_region_add(&m->vm->system_memory, (UINT64_C(1) << 32) - rom_size, &f->rom, 1);
    return true;
}

bool x86_firmware_load(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err)
{
    m->boot.how = ENTRY_FIRMWARE;
    return load_rom(m, f, err) && fill(m, f, acpi, err);
}

/* The last 128 KiB also lie below 1 MiB. What the chip set's PAM registers would copy there is there at once, in RAM. */
void x86_firmware_reset(struct x86_machine *m, struct x86_firmware *f)
{
    size_t n = MIN(f->size, (size_t)LEGACY_ROM);

    if (n)
        as_write(&m->vm->memory, 0x100000 - n, f->image + f->size - n, n, MEM_ATTRS_NONE);
}

void x86_firmware_free(struct x86_firmware *f)
{
    g_free(f->image);
}
