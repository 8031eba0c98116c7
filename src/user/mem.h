/* The guest's mappings, for the files of src/user: what /proc/self/maps tells and what MAP_FIXED may replace. */
#ifndef RHEA_SRC_USER_MEM_H
#define RHEA_SRC_USER_MEM_H

#include "rhea/user/process.h"

enum { PROT_ALL = 7 };          /* read, write, execute; beside them process.guard_bits */

struct map {
    uint64_t start, end;        /* guest addresses */
    uint64_t offset, ino;
    uint32_t dev_major, dev_minor;
    uint8_t prot;               /* what the guest asked for */
    bool sealed;                /* mseal() */
    bool shared, shm;           /* shm: by shmat() */
    const char *name;           /* interned; NULL: anonymous */
};

struct mm *mm_new(struct process *p);
void mm_free(struct mm *mm);
/* Gives the text of /proc/self/maps; caller frees. */
char *mem_maps_text(struct process *p);
int64_t mem_shmat(struct process *p, int id, uint64_t addr, int flags);
int64_t mem_shmdt(struct process *p, uint64_t addr);
int64_t mem_seal(struct process *p, uint64_t addr, uint64_t n);
/* Something in there is sealed so that not even its contents may be discarded. */
bool mem_sealed(struct process *p, uint64_t addr, uint64_t n);
/* The private mapping of a file at addr; false: there is none. */
bool mem_file(struct process *p, uint64_t addr, struct map *out);
/* Names the mapping at addr ("[stack]"). */
/* A page of code above the addresses that the guest may map. */
bool mem_vectors(struct process *p, uint64_t addr, const uint8_t page[CPU_PAGE_SIZE]);
void mem_name(struct process *p, uint64_t addr, const char *name);
/* All of [addr, addr + n) is mapped. */
bool mem_covered(struct process *p, uint64_t addr, uint64_t n);

#endif
