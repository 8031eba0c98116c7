/* What boards tell their firmware through fw_cfg. */
#ifndef RHEA_BOARD_FW_CONFIG_H
#define RHEA_BOARD_FW_CONFIG_H

#include "board/acpi.h"
#include "board/smbios.h"

/* Size of memory, CPUs, UUID, -boot menu=. */
bool fw_config_machine(struct device *fw_cfg, struct vm *vm, struct error *err);
/* The tables and the table loader's script, which SeaBIOS and EDK2 execute to place them. */
bool fw_config_acpi(struct device *fw_cfg, const struct acpi_image *img, struct error *err);
/* Builds them; product and ranges are set. */
bool fw_config_smbios(struct device *fw_cfg, struct smbios *s, struct error *err);
/* -append, for a kernel that firmware starts */
void fw_config_command_line(struct device *fw_cfg, struct vm *vm);
/* -kernel, -initrd and -append as they are, for firmware that knows what to do with them (EDK2) */
bool fw_config_kernel(struct device *fw_cfg, struct vm *vm, struct error *err);
/* bootindex= of devices as Open Firmware paths: file "bootorder". root: the PCI host's node, "/pci@i0cf8". */
bool fw_config_boot_order(struct device *fw_cfg, struct vm *vm, const char *root, struct error *err);
/* -fw_cfg name=...,string=... or file=... */
bool fw_config_users(struct device *fw_cfg, struct vm *vm, struct error *err);

#endif
