/* Locks on image files, so that two programs do not write one image at once. */
#ifndef RHEA_BLOCK_FILELOCK_H
#define RHEA_BLOCK_FILELOCK_H

#include <stdbool.h>
#include "rhea/base/error.h"

/* Holds the lock of a reader or a writer (or none) on fd, forbidding other writers. The error names the holder. */
bool filelock_set(int fd, const char *path, bool read, bool write, struct error *err);

#endif
