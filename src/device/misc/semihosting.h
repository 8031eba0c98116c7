/* What the files of semihosting share. */
#ifndef RHEA_DEVICE_MISC_SEMIHOSTING_H
#define RHEA_DEVICE_MISC_SEMIHOSTING_H

#include <pthread.h>
#include <sys/types.h>
#include "rhea/chardev/chardev.h"
#include "rhea/vm/semihosting.h"

enum { SH_HANDLES = 256, SH_INPUT = 1024, SH_WAIT_MS = 10 };

enum sh_kind { SH_FREE, SH_FILE, SH_CONSOLE, SH_FEATURES };
struct sh_handle {
    uint8_t kind;
    bool borrowed;              /* fd is the process's own: not closed */
    bool reads, writes;
    int fd;
    uint64_t at;                /* SH_FEATURES: position */
};

/* Output that had to wait in its middle: the same call goes on behind `done`. */
struct sh_partial { struct cpu *cpu; uint64_t pc, arg, done; };

struct sh {
    struct semihosting base;    /* first */
    struct vm *vm;
    char *cmdline;              /* what GET_CMDLINE gives */
    bool may_spawn;             /* SYSTEM runs programs */
    int64_t started;            /* of the machine's clock */
    pthread_mutex_t lock;       /* all below; never held while waiting */
    struct sh_handle handle[SH_HANDLES];
    int error;                  /* what ERRNO gives: of the last call that failed */
    pid_t child;                /* SYSTEM's program; 0: none */
    struct cpu *child_of;
    struct sh_partial partial[16];      /* by CPU index, modulo */
    /* console on a character device; fe NULL: standard input, output and error */
    struct chardev_fe *fe;
    pthread_cond_t typed;
    uint8_t input[SH_INPUT];
    unsigned first, count;
};

/* Results of transfers below: bytes, or one of these. */
enum { SH_FAILED = -1, SH_AGAIN = -2 };

/* semihosting_mem.c: guest memory by its virtual address, at the CPU's privilege; RAM only. false: it may not be touched.
 * Before anything is written all of the range is known to be writable. */
bool sh_get(struct cpu *cpu, uint64_t va, void *buf, uint64_t len);
bool sh_put(struct cpu *cpu, uint64_t va, const void *buf, uint64_t len);
/* A string of len bytes, or (len UINT64_MAX) up to its NUL. NULL: not there, too long, or with a NUL inside. Caller frees. */
char *sh_string(struct cpu *cpu, uint64_t va, uint64_t len, uint64_t max);

/* semihosting_files.c: handles. All under the lock but the console's waits. */
int sh_open(struct sh *s, const char *path, unsigned mode);     /* a handle, or SH_FAILED */
bool sh_close(struct sh *s, uint64_t handle);
struct sh_handle *sh_handle(struct sh *s, uint64_t handle);     /* NULL: not open; sets the error */
ssize_t sh_read(struct sh *s, struct sh_handle *h, void *buf, size_t len);
ssize_t sh_write(struct sh *s, struct sh_handle *h, const void *buf, size_t len);
int64_t sh_length(struct sh *s, struct sh_handle *h);
bool sh_seek(struct sh *s, struct sh_handle *h, uint64_t at);
int sh_is_tty(struct sh *s, struct sh_handle *h);
ssize_t sh_console_read(struct sh *s, void *buf, size_t len);   /* waits SH_WAIT_MS at most, without the lock */
ssize_t sh_console_write(struct sh *s, const void *buf, size_t len, int fd);
bool sh_console_attach(struct sh *s, const char *chardev, struct error *err);

#endif
