/* Records in the log of the crashlog driver. */
#ifndef RHEA_BLOCK_CRASHLOG_H
#define RHEA_BLOCK_CRASHLOG_H

enum crashlog_type { CRASHLOG_WRITE = 1, CRASHLOG_ZERO = 2, CRASHLOG_FLUSH = 3 };

#endif
