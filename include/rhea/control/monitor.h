/* Monitors: QMP and HMP sessions on character devices. They run on the machine's main loop. */
#ifndef RHEA_CONTROL_MONITOR_H
#define RHEA_CONTROL_MONITOR_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;

/* mode "control" (QMP) or "readline" (HMP) on the chardev `id`. */
bool monitor_add(struct vm *vm, const char *chardev, bool control, bool pretty, struct error *err);
void monitor_cleanup(struct vm *vm);
/* One HMP command, as CPU `cpu` sees the machine; its output with LF line ends, caller frees. */
char *hmp_run(struct vm *vm, const char *line, int cpu);
/* One QMP command as an object {"execute": ...}: the whole reply object, caller owns. For tests and embedders. */
struct json_object *qmp_run(struct vm *vm, struct json_object *request);
/* JSON as QMP writes it: one line, ": " and ", " as separators, ASCII. pretty: indented. Caller frees. */
char *json_print(struct json_object *o, bool pretty);
/* Strict JSON with QMP's single-quoted strings; limits on size, depth. NULL with err. *used: bytes consumed. */
struct json_object *json_parse(const char *text, size_t len, struct error *err);

#endif
