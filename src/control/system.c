/* The system emulator as a process: background, pid file, signals, jail, main loop, exit status. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmdline-internal.h"
#include "rhea/base/log.h"
#include "rhea/chardev/chardev.h"

/* ---- -daemonize: the parent ends when the machine is made and its sockets listen, with the child's verdict */

static int daemon_pipe = -1;    /* the child's end; a process goes to the background once */

static bool daemon_start(struct error *err)
{
    int fds[2], status;
    char verdict = 1;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC))
        return error_set_errno(err, errno, NULL, "-daemonize: no pipe");
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        return error_set_errno(err, errno, NULL, "-daemonize: cannot fork");
    if (pid > 0) {
        ssize_t n;

        close(fds[1]);
        do
            n = read(fds[0], &verdict, 1);
        while (n < 0 && errno == EINTR);
        if (n != 1 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status))
            _exit(WEXITSTATUS(status));
        _exit(n == 1 ? verdict : 1);
    }
    close(fds[0]);
    daemon_pipe = fds[1];
    setsid();
    umask(077);
    return true;
}

static void daemon_ready(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char verdict = 0;

    if (null >= 0) {
        for (int fd = 0; fd < 3; fd++)
            if (fd < 2 || !log_mask)
                dup2(null, fd);
        close(null);
    }
    if (write(daemon_pipe, &verdict, 1) != 1)
        warn_report("-daemonize: the parent is gone");
    close(daemon_pipe);
    daemon_pipe = -1;
}

/* ---- -pidfile: locked as long as the process lives */

static bool pidfile_write(const char *path, bool *made, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    char text[32];
    int len = snprintf(text, sizeof(text), "%d\n", getpid());
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fd < 0)
        return error_set_errno(err, errno, "check the directory and its rights", "-pidfile %s", path);
    if (fcntl(fd, F_SETLK, &lock)) {
        close(fd);
        return error_setf(err, ERR_GENERIC, "end that process, or name another file",
                          "-pidfile %s: locked by a running machine", path);
    }
    if (ftruncate(fd, 0) || write(fd, text, len) != len) {
        error_set_errno(err, errno, NULL, "-pidfile %s", path);
        close(fd);
        return false;
    }
    return *made = true;        /* fd stays open: it holds the lock */
}

/* ---- signals */

struct signals { struct vm *vm; int fd; struct loop_fd *watch; };

static void signal_seen(void *opaque, unsigned events)
{
    struct signals *s = opaque;
    struct signalfd_siginfo siginfo = { 0 };

    if (read(s->fd, &siginfo, sizeof(siginfo)) != sizeof(siginfo))
        return;
    if (siginfo.ssi_signo == SIGTSTP) {         /* Ctrl-Z: the shell gets its terminal as it was */
        chardev_terminal_give_back(true);
        raise(SIGSTOP);
        chardev_terminal_give_back(false);
        return;
    }
    if (siginfo.ssi_pid)
        info_report("terminating on signal %d from pid %d", siginfo.ssi_signo, siginfo.ssi_pid);
    else
        info_report("terminating on signal %d", siginfo.ssi_signo);
    vm_request_stop(s->vm, STOP_HOST_SIGNAL, 0);
}

/* Blocked before the first thread starts, so that all inherit it; taken by the main loop. */
static bool signals_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGTSTP);
    signal(SIGPIPE, SIG_IGN);
    return !pthread_sigmask(SIG_BLOCK, set, NULL);
}

static bool signals_watch(struct signals *s, struct vm *vm, const sigset_t *set, struct error *err)
{
    s->vm = vm;
    s->fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->fd < 0)
        return error_set_errno(err, errno, NULL, "no signal descriptor");
    s->watch = loop_fd_add(vm->loop, s->fd, LOOP_IN, signal_seen, s);
    return true;
}

/* ---- the run */

static bool process_prepare(struct cmdline *c, struct error *err)
{
    uint32_t mask = 0;

    if (c->log_file && !log_open(c->log_file, err))
        return false;
    if (c->log_filter && !log_set_filter(c->log_filter, err))
        return false;
    if (c->log_spec) {
        if (!log_parse(c->log_spec, &mask, err))
            return false;
        log_set(mask);
    }
    if (c->process_name)
        prctl(PR_SET_NAME, c->process_name);
    return !c->daemonize || daemon_start(err);
}

static bool process_confine(struct cmdline *c, struct error *err)
{
    if (c->mem_lock && mlockall(MCL_CURRENT | MCL_FUTURE))
        return error_set_errno(err, errno, "raise the limit (ulimit -l), or leave mem-lock out",
                               "-overcommit mem-lock=on: guest RAM cannot be locked");
    return jail_enter(c, err) && (!c->sandbox || sandbox_enter(c->sandbox, err));
}

static int run_machine(struct cmdline *c, struct error *err)
{
    struct signals signals = { .fd = -1 };
    struct loop *loop;
    struct vm *vm;
    bool pidfile_made = false;
    sigset_t set;
    int code = 1;

    signals_block(&set);
    loop = loop_new("main");
    loop_step(loop, false);             /* it is this thread's from here on: loop_call() must not wait for loop_run() */
    vm = cmdline_make_vm(c, loop, err);
    if (!vm) {
        loop_free(loop);
        return 1;
    }
    if (c->explain) {
        g_autofree char *text = cmdline_explain(c, vm);

        fputs(text, stdout);
        code = 0;
    } else if (signals_watch(&signals, vm, &set, err) && (!c->pidfile || pidfile_write(c->pidfile, &pidfile_made, err)) &&
               process_confine(c, err) && (c->config.start_paused || vm_start(vm, err))) {
        if (c->daemonize)
            daemon_ready();
        loop_run(loop);
        code = vm->exit_code;
    }
    if (signals.watch)
        loop_fd_remove(signals.watch);
    if (signals.fd >= 0)
        close(signals.fd);
    vm_stop(vm, RUN_SHUTDOWN);
    vm_destroy(vm);
    loop_free(loop);
    if (pidfile_made)
        unlink(c->pidfile);
    return code;
}

int system_main(int argc, char **argv)
{
    return system_main_with(argc, argv, NULL, NULL);
}

int system_main_with(int argc, char **argv, bool (*made)(struct vm *vm, void *opaque, struct error *err), void *opaque)
{
    struct cmdline *c = cmdline_new(argv[0]);
    struct error err = ERROR_INIT;
    int code = 0;

    c->made = made;
    c->made_arg = opaque;
    error_set_program(c->program);
    if (!cmdline_parse(c, argc, argv, &err) ||
        (!c->finished && (!cmdline_complete(c, &err) || !process_prepare(c, &err))))
        code = 1;
    else if (!c->finished)
        code = run_machine(c, &err);
    if (fflush(stdout) && !code)
        code = 1;
    if (error_is_set(&err))
        error_report(&err);
    cmdline_free(c);
    return code;
}
