/* See firmware.h. */
#include <string.h>
#include "board/fw_config.h"
#include "firmware.h"
#include "rhea/base/options.h"
#include "rhea/device/fw_cfg.h"
#include "rhea/device/rtc.h"

enum { ROM_MAX = 16 << 20, LEGACY_ROM = 128 << 10 };
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

static bool add_acpi(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err)
{
    struct acpi_image img;
    bool ok;

    x86_acpi_build(m, acpi, &img);
    ok = fw_config_acpi(f->fw_cfg, &img, err);
    acpi_free(&img);
    return ok;
}

static bool add_e820(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    GByteArray *b = g_byte_array_new();
    size_t len;

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
    len = b->len;
    return fw_cfg_add_file(f->fw_cfg, "etc/e820", g_byte_array_free(b, FALSE), len, err);
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
    if (c->kernel)
        fw_config_command_line(f->fw_cfg, m->vm);
    return true;
}

/* ---- boot order: -boot order= in CMOS */

/* CMOS 3Dh and 38h: up to three of floppy 1, disk 2, CD 3, network 4, a nibble each. */
static bool set_boot_letters(struct x86_machine *m, const char *order, struct error *err)
{
    uint32_t code = 0;

    for (unsigned i = 0; order[i]; i++) {
        static const char letters[] = "acdn";
        const char *at = strchr(letters, order[i]);

        if (!at || i == 3)
            return error_setf(err, ERR_GENERIC, "up to three of a (floppy), c (disk), d (CD), n (network)", "-boot: bad order '%s'", order);
        code |= (uint32_t)(at - letters + 1) << 4 * i;
    }
    if (m->rtc) {
        rtc_set_cmos(m->rtc, 0x3d, (uint8_t)code);
        rtc_set_cmos(m->rtc, 0x38, (uint8_t)(code >> 8 << 4));
    }
    return true;
}

/* -boot once= holds until the first reset. */
static bool set_boot_order(struct x86_machine *m, struct x86_firmware *f, struct error *err)
{
    struct json_object *boot = m->vm->config.boot;

    f->boot_order = boot ? option_str(boot, "order", "cad") : "cad";
    return set_boot_letters(m, f->boot_order, err) &&
           set_boot_letters(m, boot ? option_str(boot, "once", f->boot_order) : f->boot_order, err);
}

static bool fill(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err)
{
    static const uint8_t states[6] = { 128, 0, 0, 129 /* no S3 */, 0, 128 };
    struct smbios smbios = x86_smbios(m);

    fw_cfg_add_int(f->fw_cfg, IRQ0_OVERRIDE_KEY, 1, 4);
    fw_cfg_add_int(f->fw_cfg, ACPI_TABLES_KEY, 0, 2);
    return fw_config_machine(f->fw_cfg, m->vm, err) && (!acpi || add_acpi(m, f, acpi, err)) && add_e820(m, f, err) &&
           fw_config_smbios(f->fw_cfg, &smbios, err) && add_kernel(m, f, err) && fw_config_boot_order(f->fw_cfg, m->vm, "/pci@i0cf8", err) &&
           set_boot_order(m, f, err) && fw_cfg_add_file(f->fw_cfg, "etc/system-states", g_memdup2(states, 6), 6, err) &&
           fw_config_users(f->fw_cfg, m->vm, err);
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
    struct error err = ERROR_INIT;

    if (f->started)
        set_boot_letters(m, f->boot_order, &err);       /* was checked */
    f->started = true;
    if (n)
        as_write(&m->vm->memory, 0x100000 - n, f->image + f->size - n, n, MEM_ATTRS_NONE);
}

void x86_firmware_free(struct x86_firmware *f)
{
    g_free(f->image);
}
