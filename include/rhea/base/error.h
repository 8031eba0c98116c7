/* Errors: a class (as QMP names it), a sentence, and a hint that says how to mend it.
 * A function that can fail takes a `struct error *` last, fills it once and returns false (or NULL, or -1);
 * whoever reports it, reports it once, at the top. The caller owns the struct and clears it with error_clear().
 * A NULL `struct error *` discards the text. */
#ifndef RHEA_BASE_ERROR_H
#define RHEA_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <glib.h>

enum error_class {
    ERR_GENERIC,                /* GenericError */
    ERR_COMMAND_NOT_FOUND,      /* CommandNotFound */
    ERR_DEVICE_NOT_ACTIVE,      /* DeviceNotActive */
    ERR_DEVICE_NOT_FOUND,       /* DeviceNotFound */
    ERR_KVM_MISSING_CAP,        /* KVMMissingCap */
    ERR_MIGRATION_EXPECTED,     /* MigrationExpected */
};

struct error {
    enum error_class cls;
    char *msg;                  /* what failed and why; NULL: no error */
    char *hint;                 /* what to do about it, or NULL */
};

#define ERROR_INIT ((struct error){ 0 })

/* Each returns false, so that `return error_set(...)` ends a bool function. A second set keeps the first text. */
bool error_set(struct error *err, enum error_class cls, const char *msg, const char *hint);
bool error_setf(struct error *err, enum error_class cls, const char *hint, const char *fmt, ...)
    G_GNUC_PRINTF(4, 5);
/* As error_setf(), the sentence followed by ": strerror(errnum)". */
bool error_set_errno(struct error *err, int errnum, const char *hint, const char *fmt, ...)
    G_GNUC_PRINTF(4, 5);
/* Puts "text: " before the sentence. */
void error_prepend(struct error *err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void error_move(struct error *dst, struct error *src);
void error_clear(struct error *err);
static inline bool error_is_set(const struct error *err) { return err && err->msg; }
/* The QMP spelling of a class. */
const char *error_class_name(enum error_class cls);
/* Name of the program in messages: the last part of argv[0]. */
void error_set_program(const char *argv0);
/* -msg timestamp=on, guest-name=on (NULL: no name) */
void report_set_style(bool timestamps, const char *guest_name);
/* Prints "rhea-program: sentence\n      hint\n" to stderr and clears. */
void error_report(struct error *err);
/* One line to stderr, with the program's name ("warning: ...") and the timestamp of -msg timestamp=on. */
void warn_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void info_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

static inline void error_cleanup(struct error *err) { error_clear(err); }

#endif
