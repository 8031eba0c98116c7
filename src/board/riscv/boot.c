/* Starting firmware and kernels on the RISC-V virt board. All harts start at the reset vector in ROM, which enters the
 * firmware with a0 = hart, a1 = device tree, a2 = OpenSBI's dynamic information (OpenSBI, docs/firmware/fw_dynamic.md).
 * Kernels: Linux, Documentation/arch/riscv/boot-image-header.rst; U-Boot's and others' plain images; ELF. */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include "board/fw_config.h"
#include "board/image.h"
#include "virt.h"

#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)
enum { IMAGE_SIZE_AT = 16, IMAGE_MAGIC_AT = 56, IMAGE_MAGIC = 0x05435352 /* "RSC\x05" */, IMAGE_HEADER = 64 };
enum { FW_DYNAMIC_MAGIC = 0x4942534f, FW_DYNAMIC_VERSION = 2, NEXT_SUPERVISOR = 1 };

static uint64_t ram_end(const struct rvirt *v) { return RVIRT_RAM + v->vm->config.ram_size; }
static uint64_t align_up(uint64_t n, uint64_t a) { return (n + a - 1) & ~(a - 1); }

/* Takes data (g_malloc'ed). Copied into memory at each reset. */
static bool blob(struct rvirt *v, uint64_t addr, void *data, size_t len, struct error *err)
{
    if (v->nblobs == RVIRT_BLOBS || addr < RVIRT_RAM || addr > ram_end(v) || len > ram_end(v) - addr) {
        g_free(data);
        return error_setf(err, ERR_GENERIC, "RAM begins at 0x80000000; give the machine more with -m",
                          "%zu KiB at %#" PRIx64 " do not fit in %" PRIu64 " MiB of memory", len >> 10, addr,
                          v->vm->config.ram_size / MIB);
    }
    v->blob[v->nblobs++] = (struct rvirt_blob){ addr, data, len };
    return true;
}

static bool put_segment(void *opaque, uint64_t addr, void *data, size_t len, struct error *err)
{
    return blob(opaque, addr, data, len, err);
}

static bool load_elf(struct rvirt *v, const struct image *i, struct image_elf *e, struct error *err)
{
    *e = (struct image_elf){ .machine = EM_RISCV, .wide = v->wide, .limit = v->vm->config.ram_size, .put = put_segment, .opaque = v };
    return image_load_elf(i, e, err);
}

/* ---- firmware: *entry, and where it ends */

static char *default_firmware(struct rvirt *v)
{
    static const char *const wide[] = { "opensbi-riscv64-generic-fw_dynamic.bin",
                                        "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin" };
    static const char *const narrow[] = { "opensbi-riscv32-generic-fw_dynamic.bin",
                                          "/usr/lib/riscv32-linux-gnu/opensbi/generic/fw_dynamic.bin" };

    for (unsigned n = 0; n < G_N_ELEMENTS(wide); n++) {
        g_autofree char *path = firmware_find(v->vm, v->wide ? wide[n] : narrow[n]);

        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    return NULL;
}

static bool load_firmware(struct rvirt *v, uint64_t *entry, uint64_t *end, struct error *err)
{
    const char *bios = v->vm->config.bios;
    g_autofree char *path = NULL;
    struct image i = { 0 };
    struct image_elf e;
    bool ok;

    *entry = *end = RVIRT_RAM;
    if (bios && !strcmp(bios, "none"))
        return true;
    path = bios && strcmp(bios, "default") ? firmware_find(v->vm, bios) : default_firmware(v);
    if (!path)
        return error_setf(err, ERR_GENERIC, v->wide ? "install the package opensbi, name one with -bios, or start without: -bios none"
                          : "name a 32-bit OpenSBI with -bios (Debian has none), or start without: -bios none",
                          "there is no OpenSBI for RV%u", v->wide ? 64u : 32u);
    ok = image_read(&i, "firmware", path, err);
    if (ok && image_is_elf(&i)) {
        ok = load_elf(v, &i, &e, err);
        *entry = e.entry;
        *end = e.high;
    } else if (ok) {
        *end = RVIRT_RAM + i.len;
        ok = blob(v, RVIRT_RAM, g_steal_pointer(&i.data), i.len, err);
    }
    image_free(&i);
    return ok;
}

/* ---- -kernel: *entry 0: none; *end: after what it takes */

static uint64_t image_size(const struct image *i)
{
    uint32_t magic;
    uint64_t size;

    if (i->len < IMAGE_HEADER)
        return i->len;
    memcpy(&magic, i->data + IMAGE_MAGIC_AT, 4);
    memcpy(&size, i->data + IMAGE_SIZE_AT, 8);
    return magic == IMAGE_MAGIC ? MAX(size, i->len) : i->len;
}

/* Firmware takes the first 2 MiB (RV32: 4 MiB, a megapage); a kernel begins there. */
static bool load_kernel(struct rvirt *v, uint64_t firmware_end, uint64_t *entry, uint64_t *end, struct error *err)
{
    uint64_t at = align_up(firmware_end, v->wide ? 2 * MIB : 4 * MIB);
    struct image i = { 0 };
    struct image_elf e;
    bool ok;

    *entry = 0;
    *end = at;
    if (!v->vm->config.kernel)
        return true;
    ok = image_read(&i, "kernel", v->vm->config.kernel, err) && image_unpack(&i, v->vm->config.ram_size, err);
    if (ok && image_is_elf(&i)) {
        ok = load_elf(v, &i, &e, err);
        *entry = e.entry;
        *end = e.high;
    } else if (ok) {
        uint64_t size = image_size(&i);

        if (size > ram_end(v) - at || at > ram_end(v))
            ok = error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "the kernel %s wants %" PRIu64 " MiB from %#" PRIx64
                            " on", i.path, size / MIB, at);
        *entry = at;
        *end = at + size;
        ok = ok && blob(v, at, g_steal_pointer(&i.data), i.len, err);
    }
    image_free(&i);
    return ok;
}

/* ---- the device tree at the top of memory (below 3 GiB, where 32-bit software reaches it), the initrd below it */

static bool place_rest(struct rvirt *v, const char *initrd_path, uint64_t kernel_end, struct error *err)
{
    uint64_t top = MIN(ram_end(v), 3 * GIB);
    struct image initrd = { 0 };

    if (initrd_path && !image_read(&initrd, "initrd", initrd_path, err)) {
        image_free(&initrd);
        return false;
    }
    v->initrd_size = initrd.len;
    /* The tree's size does not depend on where it says that the initrd is. */
    if (!rvirt_describe(v, err)) {
        image_free(&initrd);
        return false;
    }
    if (v->dtb_len + initrd.len + 6 * MIB > top - RVIRT_RAM || kernel_end > top - v->dtb_len - initrd.len - 4 * MIB) {
        image_free(&initrd);
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m",
                          "kernel, initrd and device tree do not fit in %" PRIu64 " MiB of memory", v->vm->config.ram_size / MIB);
    }
    v->dtb_addr = (top - v->dtb_len) & ~(2 * MIB - 1);
    v->initrd = (v->dtb_addr - initrd.len) & ~(2 * MIB - 1);
    if (initrd.len && !(rvirt_describe(v, err) && blob(v, v->initrd, g_steal_pointer(&initrd.data), initrd.len, err))) {
        image_free(&initrd);
        return false;
    }
    image_free(&initrd);
    return true;
}

/* ---- the reset vector */

/* Registers are loaded from behind the code; the words of OpenSBI's information are as wide as registers. */
static void reset_vector(struct rvirt *v, uint64_t entry, uint64_t next)
{
    const uint32_t code[] = {
        0x00000297,                             /* auipc t0, 0 */
        0x02828613,                             /* addi a2, t0, 40 */
        0xf1402573,                             /* csrr a0, mhartid */
        v->wide ? 0x0202b583 : 0x0202a583,      /* ld (lw) a1, 32(t0) */
        v->wide ? 0x0182b283 : 0x0182a283,      /* ld (lw) t0, 24(t0) */
        0x00028067,                             /* jr t0 */
    };
    const uint64_t args[] = { entry, v->dtb_addr };
    const uint64_t info[] = { FW_DYNAMIC_MAGIC, FW_DYNAMIC_VERSION, next, NEXT_SUPERVISOR, 0 /* options */, 0 /* boot hart */ };
    uint8_t *p = v->mrom_ram->host;

    memcpy(p, code, sizeof(code));
    p += sizeof(code);
    memcpy(p, args, sizeof(args));
    p += sizeof(args);
    for (unsigned n = 0; n < G_N_ELEMENTS(info); n++, p += v->wide ? 8 : 4)
        memcpy(p, &info[n], v->wide ? 8 : 4);
}

/* Beside firmware in flash it is that which starts -kernel, from fw_cfg. */
bool rvirt_load(struct rvirt *v, struct error *err)
{
    bool flash = v->pflash[0];
    uint64_t firmware, firmware_end, kernel = 0, kernel_end;

    if (!load_firmware(v, &firmware, &firmware_end, err))
        return false;
    kernel_end = firmware_end;
    if (!(flash ? fw_config_kernel(v->fw_cfg, v->vm, err) : load_kernel(v, firmware_end, &kernel, &kernel_end, err)) ||
        !place_rest(v, flash ? NULL : v->vm->config.initrd, kernel_end, err))
        return false;
    /* What is in the first flash is a kernel to firmware, and without firmware what the harts start with. */
    if (flash)
        kernel = RVIRT_FLASH;
    if (v->vm->config.bios && !strcmp(v->vm->config.bios, "none") && kernel)
        firmware = kernel;
    reset_vector(v, firmware, kernel);
    return true;
}

void rvirt_enter(struct rvirt *v)
{
    struct address_space *as = &v->vm->memory;

    for (unsigned n = 0; n < v->nblobs; n++)
        as_write(as, v->blob[n].addr, v->blob[n].data, v->blob[n].len, MEM_ATTRS_NONE);
    if (v->dtb) {
        dt_reseed(v->dtb);
        as_write(as, v->dtb_addr, v->dtb, v->dtb_len, MEM_ATTRS_NONE);
    }
}
