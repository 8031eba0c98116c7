/* The commands of qemu-io that work on a disk, for rhea-io and the monitor's qemu-io. */
#ifndef RHEA_BLOCK_IO_COMMAND_H
#define RHEA_BLOCK_IO_COMMAND_H

#include <stdio.h>
#include "block/backend.h"

enum { BLOCK_IO_WORDS_MAX = 64 };

struct block_io {
    struct block_graph *graph;
    struct block_node *node;
    struct block_backend *b;            /* or NULL: node is the caller's alone, else it is b's at any time */
    FILE *out;
    unsigned misalign;                  /* bytes that buffers lie off their alignment: what O_DIRECT does not take */
    unsigned running;                   /* aio_* under way */
    bool failed;                        /* one of them */
};

struct block_io_command {               /* tables end with a NULL name */
    const char *name, *other, *args, *summary;
    bool (*run)(struct block_io *io, int argc, char **argv);    /* false: it failed, and has said so */
};
extern const struct block_io_command block_io_commands[];
const struct block_io_command *block_io_find(const struct block_io_command *commands, const char *word);
/* Says that there is no such command, and why. */
void block_io_unknown(FILE *out, const char *word);
/* Cuts line. */
int block_io_words(char *line, char *words[BLOCK_IO_WORDS_MAX + 1]);
/* Until nothing is under way; false: something failed. */
bool block_io_wait(struct block_io *io);
/* A line on a back end whose disk is in use, on the main loop; what is to be said goes to out. */
bool block_io_backend(struct block_backend *b, const char *line, FILE *out);

/* A number of at most max, with suffixes; false: it is none, and that was said. */
bool block_io_number(struct block_io *io, const char *text, const char *what, uint64_t max, uint64_t *out);
/* Options of a command as getopt(3) has them, by hand: commands come by dozens in one process. */
struct block_io_flags { const char *text[128]; bool set[128]; };
bool block_io_flags(struct block_io *io, int *argc, char ***argv, const char *known, struct block_io_flags *f);

#endif
