/* Starting kernels and firmware on the virt board. Linux: Documentation/arch/arm64/booting.rst and arch/arm/booting.rst;
 * U-Boot's legacy image format; ELF for programs without an operating system. */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include "board/fw_config.h"
#include "board/image.h"
#include "virt.h"

#define MIB UINT64_C(0x100000)
enum { IMAGE_MAGIC = 0x644d5241 /* "ARM\x64" */, ZIMAGE_MAGIC = 0x016f2818, UIMAGE_MAGIC = 0x27051956, UIMAGE_HEADER = 64 };
enum { IMAGE_TEXT_OFFSET = 8, IMAGE_SIZE = 16, IMAGE_MAGIC_AT = 56, IMAGE_HEADER = 64, ZIMAGE_MAGIC_AT = 0x24 };

static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static uint32_t get_be32(const uint8_t *p) { return __builtin_bswap32(get32(p)); }

bool virt_blob(struct virt *v, uint64_t addr, void *data, size_t len, struct error *err)
{
    uint64_t end = VIRT_RAM + v->vm->config.ram_size;

    if (v->nblobs == VIRT_BLOBS || addr < VIRT_RAM || addr > end || len > end - addr) {
        g_free(data);
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "%zu KiB at %#" PRIx64 " do not fit in %" PRIu64
                          " MiB of memory", len >> 10, addr, v->vm->config.ram_size / MIB);
    }
    v->blob[v->nblobs++] = (struct virt_blob){ addr, data, len };
    return true;
}

/* ---- where things go */

/* The initrd stays clear of where the kernel unpacks itself; the tree follows, in a 2 MiB block of its own (an arm64 kernel
 * maps no more of it). */
static bool place_rest(struct virt *v, uint64_t kernel_end, struct error *err)
{
    const struct vm_config *c = &v->vm->config;
    uint64_t at = MAX(VIRT_RAM + MIN(c->ram_size / 2, 128 * MIB), (kernel_end + 0xfff) & ~UINT64_C(0xfff));
    uint64_t align = v->wide ? 2 * MIB : 0x1000;
    struct image initrd = { 0 };

    if (c->initrd) {
        bool ok = image_read(&initrd, "initrd", c->initrd, err);

        v->initrd = at;
        v->initrd_size = initrd.len;
        ok = ok && virt_blob(v, at, g_steal_pointer(&initrd.data), initrd.len, err);
        image_free(&initrd);
        if (!ok)
            return false;
    }
    v->dtb_addr = (at + v->initrd_size + align - 1) & ~(align - 1);
    if (!virt_describe(v, err))
        return false;
    if (v->dtb_len > 2 * MIB || v->dtb_addr + v->dtb_len > VIRT_RAM + c->ram_size)
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m",
                          "the device tree does not fit behind kernel and initrd in %" PRIu64 " MiB of memory", c->ram_size / MIB);
    return true;
}

static bool start_linux(struct virt *v, uint64_t load, uint64_t need, struct image *k, struct error *err)
{
    v->how = ENTRY_LINUX;
    v->entry = load;
    if (!place_rest(v, load + MAX(need, k->len), err))
        return false;
    return virt_blob(v, load, g_steal_pointer(&k->data), k->len, err);
}

/* Image: from text_offset on in a 2 MiB block, but not the first, where older kernels expect to find memory below them. */
static bool load_image64(struct virt *v, struct image *k, struct error *err)
{
    uint64_t offset = get64(k->data + IMAGE_TEXT_OFFSET), size = get64(k->data + IMAGE_SIZE);

    if (!size) {                        /* before Linux 3.17: no size, and the offset's byte order is not certain */
        offset = 0x80000;
        size = k->len;
    }
    if (offset >= 1024 * MIB || size >= v->vm->config.ram_size)
        return error_setf(err, ERR_GENERIC, "give the machine more memory with -m", "the kernel %s wants %" PRIu64 " MiB of memory, from %"
                          PRIu64 " MiB on", k->path, size / MIB, offset / MIB);
    if (offset < 0x1000)
        offset += 2 * MIB;
    return start_linux(v, VIRT_RAM + offset, size, k, err);
}

/* zImage unpacks itself near the start of memory, so it is put where that does not overwrite it. */
static bool load_zimage(struct virt *v, struct image *k, struct error *err)
{
    uint64_t at = v->vm->config.ram_size >= 128 * MIB ? 32 * MIB : 0x10000;

    return start_linux(v, VIRT_RAM + at, k->len, k, err);
}

/* With secure=on a program that is alone on the machine brings its own EL3 firmware: every CPU starts it there, and nobody answers PSCI calls. */
static void bring_own_firmware(struct virt *v)
{
    v->how = ENTRY_BARE;
    if (!v->secure)
        return;
    v->psci = ARM_PSCI_NONE;
    for (unsigned i = 0; i < v->vm->nvcpus; i++)
        virt_configure_cpu(v, i);
}

enum { UIMAGE_OS_LINUX = 5, UIMAGE_KERNEL = 2, UIMAGE_KERNEL_NOLOAD = 14 };

static bool load_uimage(struct virt *v, struct image *k, struct error *err)
{
    uint32_t size = get_be32(k->data + 12), load = get_be32(k->data + 16), entry = get_be32(k->data + 20);
    uint8_t os = k->data[28], type = k->data[30], compression = k->data[31];

    if (size > k->len - UIMAGE_HEADER || (type != UIMAGE_KERNEL && type != UIMAGE_KERNEL_NOLOAD) || compression > 1)
        return error_setf(err, ERR_GENERIC, "a kernel, plain or compressed with gzip, is understood", "%s is no such uImage", k->path);
    memmove(k->data, k->data + UIMAGE_HEADER, size);
    k->len = size;
    if (compression == 1 && !image_unpack(k, v->vm->config.ram_size, err))
        return false;
    if (type == UIMAGE_KERNEL_NOLOAD) {
        entry += VIRT_RAM + 2 * (uint32_t)MIB;
        load = VIRT_RAM + 2 * MIB;
    }
    if (os != UIMAGE_OS_LINUX)
        bring_own_firmware(v);
    if (!start_linux(v, load, k->len, k, err))
        return false;
    v->entry = entry;
    if (os != UIMAGE_OS_LINUX)
        v->how = ENTRY_BARE;
    return true;
}

/* ---- ELF: a program that is alone on the machine */

static bool put_segment(void *opaque, uint64_t addr, void *data, size_t len, struct error *err)
{
    return virt_blob(opaque, addr, data, len, err);
}

static bool load_elf(struct virt *v, struct image *k, struct error *err)
{
    struct image_elf e = { .machine = v->wide ? EM_AARCH64 : EM_ARM, .wide = v->wide, .limit = v->vm->config.ram_size, .put = put_segment,
                           .opaque = v };

    if (!image_load_elf(k, &e, err))
        return false;
    bring_own_firmware(v);
    v->entry = e.entry;
    /* The tree is at the start of memory if the program leaves room there, else behind it. */
    v->dtb_addr = e.low >= VIRT_RAM + 2 * MIB ? VIRT_RAM : (MAX(e.high, (uint64_t)VIRT_RAM) + 0xfff) & ~UINT64_C(0xfff);
    return virt_describe(v, err);
}

/* ---- -kernel */

static bool load_kernel(struct virt *v, struct image *k, struct error *err)
{
    if (!image_read(k, "kernel", v->vm->config.kernel, err) || !image_unpack(k, v->vm->config.ram_size, err))
        return false;
    if (image_is_elf(k))
        return load_elf(v, k, err);
    if (k->len > UIMAGE_HEADER && get_be32(k->data) == UIMAGE_MAGIC)
        return load_uimage(v, k, err);
    if (k->len >= IMAGE_HEADER && get32(k->data + IMAGE_MAGIC_AT) == IMAGE_MAGIC) {
        if (v->wide)
            return load_image64(v, k, err);
        return error_setf(err, ERR_GENERIC, "choose one with -cpu, -cpu help lists them", "%s is an arm64 kernel; these CPUs have no AArch64",
                          k->path);
    }
    if (k->len >= 0x30 && get32(k->data + ZIMAGE_MAGIC_AT) == ZIMAGE_MAGIC) {
        if (!v->wide)
            return load_zimage(v, k, err);
        return error_setf(err, ERR_GENERIC, "rhea-system-arm starts it; or take -cpu cortex-a15", "%s is a 32-bit kernel; these CPUs start in AArch64",
                          k->path);
    }
    /* Anything else is taken for a kernel's plain image. */
    return start_linux(v, VIRT_RAM + (v->wide ? 0x80000 : 0x10000), k->len, k, err);
}

/* ---- firmware: starts at 0, finds the tree at the start of memory, and -kernel in fw_cfg */

static bool start_firmware(struct virt *v, struct error *err)
{
    v->how = ENTRY_FIRMWARE;
    v->dtb_addr = VIRT_RAM;
    return fw_config_kernel(v->fw_cfg, v->vm, err) && virt_describe(v, err);
}

bool virt_load(struct virt *v, struct error *err)
{
    struct image k = { 0 };
    bool ok;

    if (v->firmware)
        return start_firmware(v, err);
    if (!v->vm->config.kernel) {        /* waits for a debugger, or a loader, with nothing but the tree */
        v->dtb_addr = VIRT_RAM;
        return virt_describe(v, err);
    }
    ok = load_kernel(v, &k, err);
    image_free(&k);
    return ok;
}

/* ---- reset */

void virt_enter(struct virt *v)
{
    struct address_space *as = &v->vm->memory;
    const uint64_t args64[4] = { v->dtb_addr }, args32[4] = { 0, 0xffffffff, v->dtb_addr }, *args = v->wide ? args64 : args32;

    for (unsigned i = 0; i < v->nblobs; i++)
        as_write(as, v->blob[i].addr, v->blob[i].data, v->blob[i].len, MEM_ATTRS_NONE);
    if (v->dtb) {
        dt_reseed(v->dtb);
        as_write(as, v->dtb_addr, v->dtb, v->dtb_len, MEM_ATTRS_NONE);
    }
    if (v->how == ENTRY_BARE && v->secure) {
        for (unsigned i = 0; i < v->vm->nvcpus; i++)
            arm_boot_highest(arm(v->vm->vcpus[i]->cpu), v->entry, args);
    } else if (v->how != ENTRY_FIRMWARE) {
        arm_boot(arm(v->vm->vcpus[0]->cpu), v->entry, args);
    }
}
