/* Starting through firmware (-bios, or no -kernel), and what firmware asks for: fw_cfg, ROM at the top of 4 GiB. */
#ifndef RHEA_BOARD_FIRMWARE_H
#define RHEA_BOARD_FIRMWARE_H

#include "acpi_tables.h"
#include "board/smbios.h"

struct x86_firmware { struct device *fw_cfg; struct ram_block *rom_ram; struct mem_region rom; uint8_t *image; size_t size;
                      const char *boot_order; bool started; };

/* Is there firmware to run? Else a kernel is started directly. */
bool x86_firmware_wanted(const struct x86_machine *m);
bool x86_firmware_init(struct x86_machine *m, struct x86_firmware *f, struct error *err);       /* fw_cfg */
bool x86_firmware_load(struct x86_machine *m, struct x86_firmware *f, const struct acpi_config *acpi, struct error *err);
void x86_firmware_reset(struct x86_machine *m, struct x86_firmware *f);
void x86_firmware_free(struct x86_firmware *f);

/* What a PC's SMBIOS tables tell; and those in memory, without firmware. */
struct smbios x86_smbios(struct x86_machine *m);
void x86_smbios_place(struct x86_machine *m);

#endif
