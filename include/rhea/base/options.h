/* key=value option strings ("file=a.img,if=virtio,cache.direct=on") and JSON, both as json-c objects: one internal
 * shape for the command line, QMP and HMP. A comma in a value is doubled. */
#ifndef RHEA_BASE_OPTIONS_H
#define RHEA_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

/* Parses `text`. implied: name of the first element when it has no '=' (or NULL); another bare word "x" is x=on,
 * "nox" stays as it is written. "a.b=c" stays a flat key "a.b"; options_nest() makes {"a":{"b":"c"}} (and arrays of
 * "a.0"). A leading '{' parses JSON instead. All values are strings in the key=value form. A key given several times
 * ("hostfwd=...,hostfwd=...") holds an array of its strings in order; the look-ups below take the last. */
struct json_object *options_parse(const char *text, const char *implied, struct error *err);
struct json_object *options_nest(struct json_object *flat, struct error *err);
/* Typed look-ups; each takes strings ("4G", "on") as well as JSON's own types. def is returned when absent.
 * false with *err set when malformed. */
bool option_bool(struct json_object *o, const char *key, bool def, bool *out, struct error *err);
bool option_int(struct json_object *o, const char *key, int64_t def, int64_t *out, struct error *err);
bool option_size(struct json_object *o, const char *key, uint64_t def, uint64_t *out, struct error *err);
const char *option_str(struct json_object *o, const char *key, const char *def);
bool parse_size(const char *text, uint64_t unit, uint64_t *out, struct error *err); /* unit: factor without suffix */
bool parse_bool(const char *text, bool *out, struct error *err);
bool parse_uint(const char *text, uint64_t max, uint64_t *out, struct error *err);
/* Fails, with the nearest right spelling, if o has a key that is not in `known` (NULL-terminated). what: "-drive". */
bool options_check(struct json_object *o, const char *const *known, const char *what, struct error *err);
/* The candidate nearest to `word` (edit distance), or NULL when none is near. candidates: NULL-terminated. */
const char *nearest_spelling(const char *word, const char *const *candidates);

#endif
