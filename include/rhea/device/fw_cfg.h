/* fw_cfg: named blobs that a machine gives its firmware (and Linux, through sysfs). Specification: docs/specs of the
 * interface as firmware uses it (OVMF's QemuFwCfgLib, SeaBIOS' fw/paravirt.c, Linux' qemu_fw_cfg.c are its clients). */
#ifndef RHEA_DEVICE_FW_CFG_H
#define RHEA_DEVICE_FW_CFG_H

#include "rhea/vm/device.h"

/* Keys below the files */
enum { FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NOGRAPHIC = 0x04,
       FW_CFG_NB_CPUS = 0x05, FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0a,
       FW_CFG_INITRD_SIZE = 0x0b, FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f, FW_CFG_KERNEL_ENTRY = 0x10,
       FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12, FW_CFG_CMDLINE_ADDR = 0x13, FW_CFG_CMDLINE_SIZE = 0x14,
       FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_SETUP_ADDR = 0x16, FW_CFG_SETUP_SIZE = 0x17, FW_CFG_SETUP_DATA = 0x18,
       FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20, FW_CFG_FILES_MAX = 0x80, FW_CFG_ARCH_LOCAL = 0x8000 };

/* Take data (g_malloc'ed; copied not). A key or name given again is replaced. Before the machine runs. */
void fw_cfg_add_item(struct device *fw_cfg, uint16_t key, void *data, size_t len);
void fw_cfg_add_int(struct device *fw_cfg, uint16_t key, uint64_t v, unsigned bytes);   /* little-endian */
bool fw_cfg_add_file(struct device *fw_cfg, const char *name, void *data, size_t len, struct error *err);

#endif
