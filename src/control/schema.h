/* The control protocol's tables, made by gen/schema.py from schema/, and what is done with them. */
#ifndef RHEA_CONTROL_SCHEMA_H
#define RHEA_CONTROL_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;
struct monitor;

enum schema_kind { SCHEMA_BUILTIN, SCHEMA_ENUM, SCHEMA_STRUCT, SCHEMA_UNION, SCHEMA_ALTERNATE, SCHEMA_LIST };
struct schema_member { const char *name; uint16_t type; bool optional; };
struct schema_type {
    const char *name;
    enum schema_kind kind;
    const char *json_type;              /* BUILTIN */
    const struct schema_member *members; uint16_t nmembers;     /* STRUCT, UNION: what all cases have */
    const char *const *values;          /* ENUM */
    const char *tag;                    /* UNION: member that selects a case */
    const struct schema_member *cases; uint16_t ncases;         /* UNION: by tag value; ALTERNATE: unnamed */
    uint16_t element;                   /* LIST */
};
struct schema_command {
    const char *name, *summary;
    bool (*call)(struct monitor *mon, struct vm *vm, struct json_object *args, struct json_object **ret,
                 struct error *err);
    uint16_t arg_type, ret_type;
    bool open;                          /* members beyond the schema's are the subsystem's to check */
    const char *const *features;
    const char *hmp;                    /* "name|alias param:kind ...": the same for people */
};
struct schema_event { const char *name, *summary; uint16_t arg_type; };

extern const struct schema_type schema_types[];
extern const unsigned schema_type_count;
extern const struct schema_command schema_commands[];
extern const unsigned schema_command_count;
extern const struct schema_event schema_events[];
extern const unsigned schema_event_count;

const struct schema_command *schema_command_find(const char *name);
/* Checks a value against a type, deeply; the error names the member. */
bool schema_check(const struct schema_type *t, struct json_object *o, const char *path, struct error *err);
int schema_enum(const struct schema_type *t, const char *value);        /* index, -1: none */
struct json_object *schema_introspect(void);    /* query-qmp-schema */

#endif
