/* How long requests took, counted in bins of time: block-latency-histogram-set, query-blockstats. */
#ifndef RHEA_BLOCK_HISTOGRAM_H
#define RHEA_BLOCK_HISTOGRAM_H

#include <glib.h>
#include <stdatomic.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

enum { HISTOGRAM_BOUNDS_MAX = 1024 };

/* Counted from any thread; made and thrown away while nothing counts. Bin i holds times below bounds[i], the last one the rest. */
struct histogram {
    unsigned count;             /* of bounds; bins are one more */
    uint64_t *bounds;
    atomic_uint_fast64_t *bins;
};

/* bounds: an array of numbers above 0 that grow. NULL with *err set. */
struct histogram *histogram_new(struct json_object *bounds, struct error *err);
void histogram_free(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t ns);
struct json_object *histogram_info(const struct histogram *h);  /* BlockLatencyHistogramInfo */

#endif
