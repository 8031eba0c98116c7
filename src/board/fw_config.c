/* See fw_config.h. The table loader's script: the interface that SeaBIOS and EDK2 execute to place ACPI tables. */
#include <inttypes.h>
#include <string.h>
#include "board/image.h"
#include "fw_config.h"
#include "rhea/base/options.h"
#include "rhea/device/fw_cfg.h"
#include "rhea/vm/pci.h"

enum { LOADER_ENTRY = 128, LOADER_NAME = 56 };
enum { LOADER_ALLOCATE = 1, LOADER_POINTER = 2, LOADER_CHECKSUM = 3, ZONE_HIGH = 1, ZONE_FSEG = 2 };

/* Milliseconds of -boot for firmware, if given. -1: for ever. */
static bool add_wait(struct device *fw_cfg, struct json_object *boot, const char *option, const char *file, unsigned size,
                     struct error *err)
{
    int64_t ms = 0;
    uint32_t *data;

    if (!boot || !option_str(boot, option, NULL))
        return true;
    if (!option_int(boot, option, 0, &ms, err))
        return false;
    if (ms < -1 || ms > 0xffff)
        return error_setf(err, ERR_GENERIC, "it is in milliseconds, up to 65535", "-boot %s=%" PRId64 " is out of range", option, ms);
    data = g_new(uint32_t, 1);
    *data = GUINT32_TO_LE((uint32_t)ms);
    return fw_cfg_add_file(fw_cfg, file, data, size, err);
}

bool fw_config_machine(struct device *fw_cfg, struct vm *vm, struct error *err)
{
    const struct vm_config *c = &vm->config;
    bool menu = false;

    if (c->boot && !option_bool(c->boot, "menu", false, &menu, err))
        return false;
    fw_cfg_add_item(fw_cfg, FW_CFG_UUID, g_memdup2(vm->uuid, 16), 16);
    fw_cfg_add_int(fw_cfg, FW_CFG_RAM_SIZE, c->ram_size, 8);
    fw_cfg_add_int(fw_cfg, FW_CFG_NOGRAPHIC, 1, 2);
    fw_cfg_add_int(fw_cfg, FW_CFG_NB_CPUS, c->cpus, 2);
    fw_cfg_add_int(fw_cfg, FW_CFG_MAX_CPUS, c->max_cpus, 2);
    fw_cfg_add_int(fw_cfg, FW_CFG_BOOT_MENU, menu, 2);
    return add_wait(fw_cfg, c->boot, "splash-time", "etc/boot-menu-wait", 2, err) &&
           add_wait(fw_cfg, c->boot, "reboot-timeout", "etc/boot-fail-wait", 4, err);
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

static GByteArray *loader_script(const struct acpi_image *img)
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

static bool add_bytes(struct device *fw_cfg, const char *name, GByteArray *b, struct error *err)
{
    size_t len = b->len;

    return fw_cfg_add_file(fw_cfg, name, g_byte_array_free(b, FALSE), len, err);
}

bool fw_config_acpi(struct device *fw_cfg, const struct acpi_image *img, struct error *err)
{
    return fw_cfg_add_file(fw_cfg, tables_file, g_memdup2(img->tables->data, img->tables->len), img->tables->len, err) &&
           fw_cfg_add_file(fw_cfg, rsdp_file, g_memdup2(img->rsdp, sizeof(img->rsdp)), sizeof(img->rsdp), err) &&
           add_bytes(fw_cfg, "etc/table-loader", loader_script(img), err);
}

/* The entry point's address of the tables is filled in by firmware. */
bool fw_config_smbios(struct device *fw_cfg, struct smbios *s, struct error *err)
{
    uint8_t entry[SMBIOS_ENTRY3];

    smbios_build(s);
    smbios_entry3(s, 0, entry);
    return add_bytes(fw_cfg, "etc/smbios/smbios-tables", g_steal_pointer(&s->tables), err) &&
           fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-anchor", g_memdup2(entry, sizeof(entry)), sizeof(entry), err);
}

void fw_config_command_line(struct device *fw_cfg, struct vm *vm)
{
    const char *append = vm->config.append;
    size_t len = append ? strlen(append) + 1 : 0;

    if (!append)
        return;
    fw_cfg_add_int(fw_cfg, FW_CFG_CMDLINE_SIZE, len, 4);
    fw_cfg_add_item(fw_cfg, FW_CFG_CMDLINE_DATA, g_strdup(append), len);
}

static bool add_file(struct device *fw_cfg, const char *what, const char *path, uint16_t size_key, uint16_t data_key, struct error *err)
{
    struct image i = { 0 };
    bool ok = !path || image_read(&i, what, path, err);

    if (ok && path) {
        fw_cfg_add_int(fw_cfg, size_key, i.len, 4);
        fw_cfg_add_item(fw_cfg, data_key, g_steal_pointer(&i.data), i.len);
    }
    image_free(&i);
    return ok;
}

bool fw_config_kernel(struct device *fw_cfg, struct vm *vm, struct error *err)
{
    const struct vm_config *c = &vm->config;

    if (c->kernel)
        fw_config_command_line(fw_cfg, vm);
    return add_file(fw_cfg, "kernel", c->kernel, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA, err) &&
           add_file(fw_cfg, "initrd", c->initrd, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA, err);
}

/* ---- boot order */

struct boot_entry { int32_t index; const struct device *dev; };

static gint by_index(gconstpointer a, gconstpointer b)
{
    const struct boot_entry *x = a, *y = b;

    return x->index < y->index ? -1 : x->index > y->index;
}

static GArray *boot_entries(struct vm *vm)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct boot_entry));

    for (struct device *d = vm->devices; d; d = d->next) {
        struct boot_entry e = { .dev = d };
        g_autofree char *text = NULL;

        if (!d->realized || !device_prop_find(d->cls, "bootindex"))
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

static void path_of_function(GString *s, const char *root, const struct pci_device *pd)
{
    uint8_t base = pd->config[PCI_CLASS + 1];

    g_string_append(s, root);
    path_of_bridges(s, pd->bus->bridge);
    g_string_append_printf(s, "/%s@%x", base == 1 ? "scsi" : base == 2 ? "ethernet" : "pci", PCI_SLOT(pd->devfn));
    if (PCI_FUNC(pd->devfn))
        g_string_append_printf(s, ",%x", PCI_FUNC(pd->devfn));
    g_string_append(s, base == 1 ? "/disk@0,0" : base == 2 ? "/ethernet-phy@0" : "");
}

/* A device in a virtio-mmio slot, by the slot's address. */
static void path_of_slot(GString *s, const struct device *d)
{
    const struct device *slot = d->parent_bus->owner;
    bool net = strstr(d->cls->name, "net") != NULL;

    g_string_append_printf(s, "/virtio-mmio@%016" PRIx64 "/%s", slot->mmio[0].addr, net ? "ethernet-phy@0" : "disk@0,0");
}

static bool path_of_device(GString *s, const char *root, const struct device *d)
{
    if (device_class_is(d->cls, "pci-device"))
        path_of_function(s, root, pci_device((struct device *)d));
    else if (d->parent_bus && d->parent_bus->owner && device_class_is(d->parent_bus->owner->cls, "virtio-mmio"))
        path_of_slot(s, d);
    else
        return false;
    return true;
}

bool fw_config_boot_order(struct device *fw_cfg, struct vm *vm, const char *root, struct error *err)
{
    g_autoptr(GArray) all = boot_entries(vm);
    g_autoptr(GString) s = g_string_new(NULL);
    bool strict = false;

    if (vm->config.boot && !option_bool(vm->config.boot, "strict", false, &strict, err))
        return false;
    for (unsigned i = 0; i < all->len; i++)
        if (path_of_device(s, root, g_array_index(all, struct boot_entry, i).dev))
            g_string_append_c(s, '\n');
    if (strict)
        g_string_append(s, "HALT\n");
    return !s->len || fw_cfg_add_file(fw_cfg, "bootorder", g_memdup2(s->str, s->len + 1), s->len + 1, err);
}

bool fw_config_users(struct device *fw_cfg, struct vm *vm, struct error *err)
{
    struct json_object *all = vm->config.fw_cfg;

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
        if (!fw_cfg_add_file(fw_cfg, name, data, len, err))
            return false;
    }
    return true;
}
