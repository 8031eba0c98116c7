/* A builder of AML, ACPI's byte code (ACPI 6.5, chapter 20). What opens a package (scope, device, method, ...) is closed
 * by aml_end(), which puts the package's length in. */
#ifndef RHEA_BOARD_AML_H
#define RHEA_BOARD_AML_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

enum { AML_DEPTH = 16 };
struct aml { GByteArray *buf; unsigned open[AML_DEPTH], depth; };

void aml_init(struct aml *a);
GByteArray *aml_steal(struct aml *a);

/* Terms */
void aml_op(struct aml *a, uint16_t op);                /* an opcode; 0x5bxx: extended */
void aml_path(struct aml *a, const char *path);         /* "\\_SB.PCI0", "^X", "FOO" (padded with _) */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id);         /* "PNP0A08" */
void aml_bytes(struct aml *a, const void *p, size_t n);
/* Name (name, ...): the value follows */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string(struct aml *a, const char *name, const char *s);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);

void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args, bool serialized);
void aml_package(struct aml *a, unsigned elements);
void aml_if(struct aml *a);                             /* the condition follows */
void aml_else(struct aml *a);
void aml_buffer(struct aml *a, const void *p, size_t n);        /* whole, needs no end */
void aml_uuid(struct aml *a, const char *uuid);         /* a buffer */
void aml_end(struct aml *a);

/* OperationRegion (name, space, offset, len); Field of it: units of `bits`, named or (NULL) skipped */
void aml_region(struct aml *a, const char *name, uint8_t space, uint64_t offset, uint64_t len);
void aml_field(struct aml *a, const char *region, uint8_t flags);
void aml_field_unit(struct aml *a, const char *name, unsigned bits);

/* ResourceTemplate () { ... }: descriptors (6.4), closed by aml_resources_end() */
void aml_resources(struct aml *a);
void aml_resources_end(struct aml *a);
void aml_io(struct aml *a, uint16_t base, uint8_t len);
void aml_irq(struct aml *a, uint16_t mask);             /* edge, high, exclusive */
void aml_irq_shared(struct aml *a, uint16_t mask);      /* level, low, shared */
void aml_interrupt(struct aml *a, uint32_t gsi);        /* extended: edge, high */
void aml_interrupt_level(struct aml *a, uint32_t gsi);  /* extended: level, high */
void aml_memory32(struct aml *a, bool writable, uint32_t base, uint32_t len);
void aml_memory64(struct aml *a, uint64_t base, uint64_t len);  /* what a device uses, anywhere */
enum aml_range { AML_MEMORY = 0, AML_IO = 1, AML_BUS = 2 };
/* Address space descriptor of the narrowest width that fits: [first, last]. */
void aml_window(struct aml *a, enum aml_range kind, bool cacheable, uint64_t first, uint64_t last);
/* I/O ports from 0 on that processors reach as memory at base. */
void aml_window_ports(struct aml *a, uint64_t base, uint32_t size);

enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d,
       AML_QWORD = 0x0e, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14, AML_LOCAL0 = 0x60,
       AML_ARG0 = 0x68, AML_ARG1, AML_ARG2, AML_ARG3, AML_STORE = 0x70, AML_ADD = 0x72, AML_AND = 0x7b, AML_OR = 0x7d,
       AML_NOTIFY = 0x86, AML_CREATE_DWORD = 0x8a, AML_LNOT = 0x92, AML_LEQUAL = 0x93, AML_IF = 0xa0, AML_ELSE = 0xa1,
       AML_RETURN = 0xa4, AML_ONES = 0xff, AML_REGION = 0x5b80, AML_FIELD = 0x5b81, AML_DEVICE = 0x5b82 };

#endif
