/* Records in the log of the crashlog driver: the first word is the type and, above it, the id of the node. */
#ifndef RHEA_BLOCK_CRASHLOG_H
#define RHEA_BLOCK_CRASHLOG_H

enum crashlog_type { CRASHLOG_WRITE = 1, CRASHLOG_ZERO = 2, CRASHLOG_FLUSH = 3 };
enum { CRASHLOG_ID_SHIFT = 8, CRASHLOG_IDS = 256 };

#endif
