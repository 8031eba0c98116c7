/* What the files of src/vm share about the machine. */
#ifndef RHEA_VM_VM_INTERNAL_H
#define RHEA_VM_VM_INTERNAL_H

#include "rhea/vm/vm.h"

struct powerdown { void (*fn)(void *opaque); void *opaque; };
struct state_watch { void (*fn)(void *opaque, bool running); void *opaque; };

struct requests {               /* guarded by vm->lock */
    bool posted, stop, reset, powerdown, panic;
    enum stop_reason stop_reason;
    enum reset_kind reset_kind;
    int exit_code;
    char *panic_how;
};

struct vm_private {
    struct requests requests;
    GArray *powerdown;          /* struct powerdown */
    GArray *state_watches;      /* struct state_watch; main loop only */
    pthread_mutex_t park_lock;  /* vCPU states; cond: one of them changed */
    pthread_cond_t park_cond;
};

struct vm_private *vm_private_new(void);
void vm_private_free(struct vm_private *p);

/* vcpu.c */
bool vcpus_start(struct vm *vm, struct error *err);     /* threads, parked */
void vcpus_pause(struct vm *vm);        /* returns when all are parked */
void vcpus_resume(struct vm *vm);
void vcpus_stop(struct vm *vm);         /* joins the threads */
void vcpus_free(struct vm *vm);
void vcpu_request_pause(struct vcpu *v);        /* NULL: nothing; does not wait */

/* board_props.c: -machine's own properties */
bool board_props_apply(struct vm *vm, struct error *err);
void board_props_free(struct vm *vm);

#endif
