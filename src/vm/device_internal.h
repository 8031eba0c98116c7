/* What the files of src/vm share about devices and properties. */
#ifndef RHEA_VM_DEVICE_INTERNAL_H
#define RHEA_VM_DEVICE_INTERNAL_H

#include <json-c/json.h>
#include "rhea/vm/device.h"

bool prop_set(void *base, const struct prop *p, const char *value, struct error *err);
char *prop_get(const void *base, const struct prop *p);
struct json_object *prop_get_json(const void *base, const struct prop *p);
char *prop_text_of_json(const struct prop *p, struct json_object *value);
const char *prop_type_name(const struct prop *p);
bool prop_is_string(const struct prop *p);
void prop_free(void *base, const struct prop *p);

/* Calls fn for every property of cls, those of its kinds first; fn returning false ends it. */
void device_class_each_prop(const struct device_class *cls, bool (*fn)(const struct prop *p, void *arg), void *arg);
const struct device_kind *const *device_kinds(unsigned *count);
/* Nearest name to `word` among the user's classes, or NULL. */
const char *device_class_nearest(const char *word);

#endif
