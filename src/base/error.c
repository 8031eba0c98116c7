/* Errors and what is told to the user on stderr. */
#include "rhea/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static bool report_timestamps;
static char *report_guest_name;

static const char *const class_names[] = {
    [ERR_GENERIC] = "GenericError",
    [ERR_COMMAND_NOT_FOUND] = "CommandNotFound",
    [ERR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [ERR_DEVICE_NOT_FOUND] = "DeviceNotFound",
    [ERR_KVM_MISSING_CAP] = "KVMMissingCap",
    [ERR_MIGRATION_EXPECTED] = "MigrationExpected",
};

const char *error_class_name(enum error_class cls)
{
    return (unsigned)cls < G_N_ELEMENTS(class_names) ? class_names[cls] : class_names[ERR_GENERIC];
}

/* Takes msg. The first error is the cause; what follows from it is dropped. */
static bool error_take(struct error *err, enum error_class cls, char *msg, const char *hint)
{
    if (!err || err->msg) {
        g_free(msg);
        return false;
    }
    err->cls = cls;
    err->msg = msg;
    err->hint = g_strdup(hint);
    return false;
}

bool error_set(struct error *err, enum error_class cls, const char *msg, const char *hint)
{
    return error_take(err, cls, g_strdup(msg), hint);
}

bool error_setf(struct error *err, enum error_class cls, const char *hint, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_take(err, cls, g_strdup_vprintf(fmt, ap), hint);
    va_end(ap);
    return false;
}

bool error_set_errno(struct error *err, int errnum, const char *hint, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!hint && errnum == ENOSPC)
        hint = "free some space on its file system";
    return error_take(err, ERR_GENERIC, g_strdup_printf("%s: %s", text, g_strerror(errnum)), hint);
}

void error_prepend(struct error *err, const char *fmt, ...)
{
    g_autofree char *prefix = NULL;
    char *old;
    va_list ap;

    if (!error_is_set(err))
        return;
    va_start(ap, fmt);
    prefix = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    old = err->msg;
    err->msg = g_strdup_printf("%s: %s", prefix, old);
    g_free(old);
}

void error_move(struct error *dst, struct error *src)
{
    if (!error_is_set(src))
        return;
    if (!dst || dst->msg)
        error_clear(src);
    else {
        *dst = *src;
        *src = ERROR_INIT;
    }
}

void error_clear(struct error *err)
{
    if (!err)
        return;
    g_free(err->msg);
    g_free(err->hint);
    *err = ERROR_INIT;
}

/* ---- reports */

void error_set_program(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');

    g_set_prgname(slash ? slash + 1 : argv0);
}

void report_set_style(bool timestamps, const char *guest_name)
{
    report_timestamps = timestamps;
    g_free(report_guest_name);
    report_guest_name = g_strdup(guest_name);
}

static void report(const char *kind, const char *text, const char *hint)
{
    GString *out = g_string_new(NULL);
    struct timeval tv;
    struct tm tm;
    const char *program = g_get_prgname();

    if (report_timestamps) {        /* ISO 8601 in UTC, microseconds */
        gettimeofday(&tv, NULL);
        gmtime_r(&tv.tv_sec, &tm);
        g_string_append_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ ", tm.tm_year + 1900, tm.tm_mon + 1,
                               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (long)tv.tv_usec);
    }
    if (report_guest_name)
        g_string_append_printf(out, "%s ", report_guest_name);
    g_string_append_printf(out, "%s: %s%s\n", program ? program : "rhea", kind, text);
    while (hint && *hint) {
        size_t len = strcspn(hint, "\n");

        g_string_append_printf(out, "      %.*s\n", (int)len, hint);
        hint += len + (hint[len] == '\n');
    }
    fputs(out->str, stderr);        /* one write, so that lines of several threads stay whole */
    fflush(stderr);
    g_string_free(out, TRUE);
}

void error_report(struct error *err)
{
    if (error_is_set(err))
        report("", err->msg, err->hint);
    error_clear(err);
}

void warn_report(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    report("warning: ", text, NULL);
}

void info_report(const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    report("info: ", text, NULL);
}
