/* Limits on the rate of requests, for the throttle node and for drives that are limited themselves. */
#ifndef RHEA_BLOCK_THROTTLE_H
#define RHEA_BLOCK_THROTTLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct block_backend;
struct throttle_group;
struct vm;

enum { THROTTLE_BUCKETS = 6 };  /* bytes a second: all, read, written; requests a second: all, reads, writes */
struct throttle_limits {
    uint64_t avg[THROTTLE_BUCKETS], max[THROTTLE_BUCKETS], max_length[THROTTLE_BUCKETS];     /* max_length 0: one second */
    uint64_t iops_size;
};

bool throttle_limits_check(const struct throttle_limits *l, struct error *err);
bool throttle_limits_any(const struct throttle_limits *l);
/* The group of this name with these limits, made if it is not there. Held: object_put() its object. */
struct throttle_group *throttle_group_join(struct vm *vm, const char *name, const struct throttle_limits *l, struct error *err);
void throttle_group_leave(struct throttle_group *g);
const char *throttle_group_name(const struct throttle_group *g);
void throttle_group_limits(const struct throttle_group *g, struct throttle_limits *out);
/* [co] Until the limits allow the request; at once while *drained is not zero. */
void throttle_group_wait(struct throttle_group *g, bool write, uint64_t bytes, const atomic_uint *drained);

/* throttling.bps-total=... of -drive, and its old names (bps, iops_rd, ...); true in *any if there are some. */
bool throttle_drive_options(struct json_object *opts, struct throttle_limits *out, const char **group, bool *any, struct error *err);

#endif
