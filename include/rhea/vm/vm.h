/* A virtual machine: everything hangs on it; several run in one process. */
#ifndef RHEA_VM_VM_H
#define RHEA_VM_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/loop.h"
#include "rhea/guest/guest.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/memory.h"

struct vm;
struct vcpu;
struct accel;

/* ---- boards */
struct board {
    const char *name;           /* "pc-q35-10.0" */
    const char *alias;          /* "q35" */
    const char *summary;
    const char *guest;          /* instruction sets it takes: "x86_64", comma-separated */
    unsigned max_cpus;
    const char *default_cpu, *default_nic, *default_ram_id;
    uint64_t default_ram;
    bool is_default, hotpluggable_cpus, deprecated;
    const struct prop *props;   /* of -machine, beside the common ones; offsets into struct vm's board data */
    size_t data_size;           /* of vm->board_data */
    bool (*init)(struct vm *vm, struct error *err);     /* makes CPUs and devices */
    bool (*done)(struct vm *vm, struct error *err);     /* after make_devices: builds tables, loads what boots */
    void (*reset)(struct vm *vm);                       /* after devices and CPUs were reset: puts what boots in place */
    void (*free)(struct vm *vm);
};
#define BOARD_(name)                                                                               \
    static const struct board name;                                                                \
    static const struct board *const DEVICE_CONCAT(name, _ptr)                                     \
        __attribute__((section("rhea_boards"), used)) = &name;                                     \
    static const struct board name
#define BOARD BOARD_(DEVICE_CONCAT(board_, __COUNTER__))
const struct board *board_find(const char *name, const char *guest);
const struct board *const *boards(unsigned *count);

/* ---- what the user asked for, filled by the command line (or librhea) before vm_create() */
struct vm_config {
    const char *guest;          /* "x86_64" */
    const char *machine;        /* board name; NULL: default */
    struct json_object *machine_opts;   /* the rest of -machine */
    struct json_object *accel;  /* -accel options, array in order of preference */
    const char *cpu;            /* -cpu, NULL: the board's */
    unsigned cpus, max_cpus, sockets, dies, clusters, cores, threads;
    uint64_t ram_size, ram_max; unsigned ram_slots;
    const char *name, *uuid;
    const char *kernel, *initrd, *append, *dtb, *bios, *firmware_path;
    struct json_object *boot, *rtc, *smbios;
    struct json_object *globals;        /* array of {driver, property, value} */
    bool no_reboot, no_shutdown, start_paused, no_defaults;
    const char *action_reboot, *action_shutdown, *action_panic, *action_watchdog;
    struct json_object *serials;        /* chardev ids for the board's serial ports, in order (null: none) */
    /* -nic and the default NIC, as -device options; control makes them, and if=virtio drives, in make_devices before
     * -device. Drives with if=ide, floppy, pflash, sd are the board's: block_foreach_drive(). */
    struct json_object *nics, *drives;
    struct json_object *fw_cfg;         /* array of -fw_cfg */
    uint8_t escape_char;                /* of character multiplexers; 0: Ctrl-a */
    bool mem_merge, dump_guest_core;    /* -machine: of RAM without a memory backend */
    const char *memory_backend;         /* -machine memory-backend=ID: see vm_main_ram() in vm/object.h */
    /* vm_create() calls back: make_backends when accelerator, memory and clock exist, before board->init (it makes the
     * chardevs, netdevs, drives and objects that devices name); make_devices after board->init (-device). Then
     * everything is reset (board->reset may build tables that describe the devices). vm_destroy() calls free_backends
     * when devices and board are gone. Each may be NULL. */
    bool (*make_backends)(struct vm *vm, void *opaque, struct error *err);
    bool (*make_devices)(struct vm *vm, void *opaque, struct error *err);
    void (*free_backends)(struct vm *vm, void *opaque);
    void (*flush_disks)(struct vm *vm);         /* a multiplexer's Ctrl-a s */
    void *opaque;
};

enum run_state { RUN_PRELAUNCH, RUN_RUNNING, RUN_PAUSED, RUN_SHUTDOWN, RUN_INTERNAL_ERROR, RUN_IO_ERROR, RUN_GUEST_PANICKED,
                 RUN_WATCHDOG, RUN_SAVE_VM, RUN_RESTORE_VM, RUN_INMIGRATE, RUN_POSTMIGRATE, RUN_DEBUG, RUN_SUSPENDED };
const char *run_state_name(enum run_state s);
enum stop_reason { STOP_HOST_QUIT, STOP_HOST_SIGNAL, STOP_HOST_UI, STOP_GUEST_SHUTDOWN, STOP_GUEST_RESET, STOP_GUEST_PANIC,
                   STOP_POWEROFF = STOP_GUEST_SHUTDOWN };

/* Events for QMP and whoever listens: name and data (a JSON object, or NULL); any thread. */
typedef void vm_event_fn(void *opaque, const char *name, struct json_object *data);

struct vcpu {
    struct vm *vm;
    struct cpu *cpu;            /* guest state */
    int index;
    int socket, die, core, thread;      /* core counts through the clusters of a die */
    uint32_t arch_id;           /* the number the guest knows it by (APIC id): fields for socket, core, thread */
    pthread_t thread_handle; bool thread_started;
    int tid;
    unsigned pauses;            /* cpu_pause() */
    void *work_head; pthread_mutex_t work_lock;
    _Atomic bool halted, stopped, stop_requested;
    bool woken, quit, ended;    /* vcpu.c, under its lock */
    bool ready;                 /* guest and accelerator have set it up */
    struct device *apic;        /* guest's local interrupt controller, if it is a device */
    void *accel_data;
};

struct vm {
    struct vm_config config;
    const struct board *board; void *board_data;
    const struct guest *guest;
    const struct accel *accel; void *accel_data;
    struct loop *loop;          /* main loop */
    struct mem_region system_memory, system_io;
    struct address_space memory, io;
    GPtrArray *ram_blocks;
    struct vcpu **vcpus; unsigned nvcpus;
    struct device *devices; struct bus *buses;
    GHashTable *objects;        /* -object: id -> struct object (control) */
    GHashTable *chardevs, *netdevs;     /* id -> the back end; each subsystem owns its table */
    struct block_graph *block_graph;    /* src/block/graph.h */
    enum run_state state;
    struct clock_state *clock;
    pthread_mutex_t lock;       /* run state, topology; never held while guest code runs */
    GArray *listeners;
    int exit_code; bool quitting;
    uint8_t uuid[16];
    void *fw_cfg;               /* the machine's fw_cfg device, if any */
    struct semihosting *semihosting;    /* rhea/vm/semihosting.h; NULL: off */
    struct control_state *control;      /* monitors, passed file descriptors: src/control's own */
    struct accel_stats *stats;
    struct mem_state *mem;      /* memory.c's own */
    struct address_space nowhere;       /* DMA of devices that may not: nobody answers */
    struct address_space *address_spaces;
    struct address_space *smm_memory;   /* what x86 CPUs see in system management mode; NULL: there is none */
    struct vm_private *priv;    /* vm.c's own: requests, vCPU parking, notifiers */
    unsigned device_count, anon_count;  /* numbers of /machine/unattached/device[N], /machine/peripheral-anon/device[N] */
    /* Where message signalled interrupts go (set by the board): false: not an interrupt address, a plain write. */
    bool (*msi)(void *opaque, uint64_t addr, uint32_t data, uint16_t requester);
    void *msi_opaque;
};

static inline struct address_space *vcpu_memory(const struct vcpu *v) { return v->cpu->memory ? v->cpu->memory : &v->vm->memory; }

/* Lifecycle. vm_create makes board and devices (CPUs reset, paused); vm_start runs; vm_destroy joins all threads. */
struct vm *vm_create(const struct vm_config *config, struct loop *loop, struct error *err);
void vm_destroy(struct vm *vm);
bool vm_start(struct vm *vm, struct error *err);        /* cont */
void vm_reset(struct vm *vm, enum reset_kind kind, bool guest, const char *reason);     /* main loop; RESET event */
void vm_stop(struct vm *vm, enum run_state why);        /* stop: returns when no vCPU runs */
bool vm_running(const struct vm *vm);
/* From devices and anywhere: carried out by the main loop (-no-reboot, -no-shutdown, -action apply). */
void vm_request_stop(struct vm *vm, enum stop_reason why, int exit_code);
void vm_request_reset(struct vm *vm, enum reset_kind kind);
void vm_request_powerdown(struct vm *vm);               /* ACPI power button */
void vm_powerdown_notifier(struct vm *vm, void (*fn)(void *opaque), void *opaque);
/* fn(opaque, running) on the main loop after the machine was started, before it is stopped. */
void vm_state_notifier(struct vm *vm, void (*fn)(void *opaque, bool running), void *opaque);
void vm_state_unnotify(struct vm *vm, void (*fn)(void *opaque, bool running), void *opaque);
void vm_request_panic(struct vm *vm, const char *how);
void vm_event(struct vm *vm, const char *name, struct json_object *data);       /* takes the reference */
void vm_listen(struct vm *vm, vm_event_fn *fn, void *opaque);
void vm_unlisten(struct vm *vm, vm_event_fn *fn, void *opaque);

/* Quits the loop of vm_run() with that exit code; any thread. */
void vm_quit(struct vm *vm, int exit_code);

/* A firmware or ROM file: as named, or in the directories of -L, or where distributions keep them. Caller frees. */
char *firmware_find(struct vm *vm, const char *name);

/* vCPUs. The accelerator's vcpu_loop calls vcpu_park() whenever CPU_EXIT_STOP is seen (and first of all): it returns
 * true when guest code may run, false when the thread must end. While it sleeps there, queued work is run by
 * `idle` (may be NULL), which vcpu_wake() makes it look at. */
bool vcpu_park(struct vcpu *v, void (*idle)(struct vcpu *v));
void vcpu_wake(struct vcpu *v);
struct vcpu *vcpu_new(struct vm *vm, struct error *err);        /* next index; guest state from config.cpu */
void vcpu_kick(struct vcpu *v, uint32_t exit_bits);
void vcpu_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg);     /* waits */
void vcpu_queue(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg);      /* does not wait */
void vcpus_exclusive(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg);   /* all parked */
struct vcpu *vcpu_current(void);
/* The guest waits in a loop for another CPU (PAUSE, YIELD): waits a moment, and now and then offers the host's core to who
 * else wants it. cpu_stall(): as long as one would wait before that, or until cpu->exit_request is set (WFE, WRS.NTO, which
 * may end for any reason). */
void cpu_pause(struct cpu *cpu);
void cpu_stall(struct cpu *cpu);
/* On a vCPU's thread: returns when every other vCPU of the machine has ended what it was doing (passed a poll) and done the
 * work queued for it before this call. One that sleeps or waits in the host counts as done: it does its work first. */
void vcpus_ack(struct vcpu *self);

/* Accelerators */
struct accel {
    const char *name, *alias, *summary;
    bool (*init)(struct vm *vm, struct json_object *opts, struct error *err);
    void (*exit)(struct vm *vm);
    bool (*vcpu_init)(struct vcpu *v, struct error *err);
    void (*vcpu_exit)(struct vcpu *v);
    void (*vcpu_loop)(struct vcpu *v);          /* body of the thread: runs until the machine ends; obeys vcpu stop/run */
    void (*kick)(struct vcpu *v);               /* out of guest code or sleep, promptly */
    void (*memory_changed)(struct vm *vm);      /* flat view changed: drop cached translations */
    void (*ram_written)(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len);    /* by the host */
    void (*run_on)(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg, bool wait);
    void (*ack)(struct vcpu *self);
    void (*exclusive)(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg);
    void (*relax)(struct vcpu *v);              /* see cpu_pause(); may be NULL */
    char *(*info)(struct vm *vm);               /* info jit */
};
#define ACCEL_(name)                                                                               \
    static const struct accel name;                                                                \
    static const struct accel *const DEVICE_CONCAT(name, _ptr)                                     \
        __attribute__((section("rhea_accels"), used)) = &name;                                     \
    static const struct accel name
#define ACCEL ACCEL_(DEVICE_CONCAT(accel_, __COUNTER__))
const struct accel *accel_find(const char *name);
const struct accel *const *accels(unsigned *count);

#endif
