/* What the process gives up before guest code runs: system calls (-sandbox), file system (-chroot), user (-runas). */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "cmdline-internal.h"
#include "rhea/base/options.h"

/* ---- -sandbox: a list of what is refused. Always: what changes the host's kernel, clock, mounts or other processes;
 * the options add the groups of their names. Refused calls fail with EPERM; those of a group end the process. */

enum { GROUP_ALWAYS = 1, GROUP_OBSOLETE = 2, GROUP_PRIVILEGES = 4, GROUP_SPAWN = 8, GROUP_RESOURCES = 16 };
static const struct { int call; unsigned group; } refused[] = {
    { SCMP_SYS(reboot), GROUP_ALWAYS }, { SCMP_SYS(swapon), GROUP_ALWAYS }, { SCMP_SYS(swapoff), GROUP_ALWAYS },
    { SCMP_SYS(syslog), GROUP_ALWAYS }, { SCMP_SYS(mount), GROUP_ALWAYS }, { SCMP_SYS(umount2), GROUP_ALWAYS },
    { SCMP_SYS(kexec_load), GROUP_ALWAYS }, { SCMP_SYS(kexec_file_load), GROUP_ALWAYS },
    { SCMP_SYS(init_module), GROUP_ALWAYS }, { SCMP_SYS(finit_module), GROUP_ALWAYS },
    { SCMP_SYS(delete_module), GROUP_ALWAYS }, { SCMP_SYS(acct), GROUP_ALWAYS },
    { SCMP_SYS(settimeofday), GROUP_ALWAYS }, { SCMP_SYS(clock_settime), GROUP_ALWAYS },
    { SCMP_SYS(clock_adjtime), GROUP_ALWAYS }, { SCMP_SYS(adjtimex), GROUP_ALWAYS },
    { SCMP_SYS(sethostname), GROUP_ALWAYS }, { SCMP_SYS(setdomainname), GROUP_ALWAYS },
    { SCMP_SYS(quotactl), GROUP_ALWAYS }, { SCMP_SYS(bpf), GROUP_ALWAYS }, { SCMP_SYS(perf_event_open), GROUP_ALWAYS },
    { SCMP_SYS(ptrace), GROUP_ALWAYS }, { SCMP_SYS(process_vm_readv), GROUP_ALWAYS },
    { SCMP_SYS(process_vm_writev), GROUP_ALWAYS }, { SCMP_SYS(add_key), GROUP_ALWAYS },
    { SCMP_SYS(request_key), GROUP_ALWAYS }, { SCMP_SYS(keyctl), GROUP_ALWAYS }, { SCMP_SYS(iopl), GROUP_ALWAYS },
    { SCMP_SYS(ioperm), GROUP_ALWAYS }, { SCMP_SYS(pivot_root), GROUP_ALWAYS }, { SCMP_SYS(setns), GROUP_ALWAYS },
    { SCMP_SYS(unshare), GROUP_ALWAYS }, { SCMP_SYS(open_by_handle_at), GROUP_ALWAYS },
    { SCMP_SYS(userfaultfd), GROUP_ALWAYS }, { SCMP_SYS(lookup_dcookie), GROUP_ALWAYS },
    { SCMP_SYS(vhangup), GROUP_ALWAYS }, { SCMP_SYS(personality), GROUP_ALWAYS },

    { SCMP_SYS(readdir), GROUP_OBSOLETE }, { SCMP_SYS(_sysctl), GROUP_OBSOLETE }, { SCMP_SYS(bdflush), GROUP_OBSOLETE },
    { SCMP_SYS(create_module), GROUP_OBSOLETE }, { SCMP_SYS(get_kernel_syms), GROUP_OBSOLETE },
    { SCMP_SYS(query_module), GROUP_OBSOLETE }, { SCMP_SYS(uselib), GROUP_OBSOLETE }, { SCMP_SYS(ustat), GROUP_OBSOLETE },
    { SCMP_SYS(sysfs), GROUP_OBSOLETE }, { SCMP_SYS(nfsservctl), GROUP_OBSOLETE }, { SCMP_SYS(modify_ldt), GROUP_OBSOLETE },

    { SCMP_SYS(setuid), GROUP_PRIVILEGES }, { SCMP_SYS(setgid), GROUP_PRIVILEGES },
    { SCMP_SYS(setpgid), GROUP_PRIVILEGES }, { SCMP_SYS(setsid), GROUP_PRIVILEGES },
    { SCMP_SYS(setreuid), GROUP_PRIVILEGES }, { SCMP_SYS(setregid), GROUP_PRIVILEGES },
    { SCMP_SYS(setresuid), GROUP_PRIVILEGES }, { SCMP_SYS(setresgid), GROUP_PRIVILEGES },
    { SCMP_SYS(setfsuid), GROUP_PRIVILEGES }, { SCMP_SYS(setfsgid), GROUP_PRIVILEGES },
    { SCMP_SYS(setgroups), GROUP_PRIVILEGES }, { SCMP_SYS(capset), GROUP_PRIVILEGES },

    { SCMP_SYS(fork), GROUP_SPAWN }, { SCMP_SYS(vfork), GROUP_SPAWN }, { SCMP_SYS(execve), GROUP_SPAWN },
    { SCMP_SYS(execveat), GROUP_SPAWN },

    { SCMP_SYS(setpriority), GROUP_RESOURCES }, { SCMP_SYS(sched_setparam), GROUP_RESOURCES },
    { SCMP_SYS(sched_setscheduler), GROUP_RESOURCES }, { SCMP_SYS(sched_setaffinity), GROUP_RESOURCES },
    { SCMP_SYS(sched_setattr), GROUP_RESOURCES }, { SCMP_SYS(setrlimit), GROUP_RESOURCES },
};

static bool sandbox_group(struct json_object *opts, const char *key, unsigned group, unsigned *groups,
                          struct error *err)
{
    const char *v = option_str(opts, key, "allow");
    bool children = !strcmp(key, "elevateprivileges") && !strcmp(v, "children");

    if (!strcmp(v, "deny") || !strcmp(v, "off"))
        *groups |= group;
    else if (strcmp(v, "allow") && strcmp(v, "on") && !children)
        return error_setf(err, ERR_GENERIC, "say allow or deny", "-sandbox %s=%s: not understood", key, v);
    /* setuid programs give no more rights than the process has */
    if (group == GROUP_PRIVILEGES && ((*groups & group) || children) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return error_set_errno(err, errno, NULL, "-sandbox: cannot give up new privileges");
    return true;
}

bool sandbox_enter(struct json_object *opts, struct error *err)
{
    static const struct { const char *key; unsigned group; } keys[] = {
        { "obsolete", GROUP_OBSOLETE }, { "elevateprivileges", GROUP_PRIVILEGES }, { "spawn", GROUP_SPAWN },
        { "resourcecontrol", GROUP_RESOURCES },
    };
    unsigned groups = GROUP_ALWAYS;
    scmp_filter_ctx ctx;
    int r = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!sandbox_group(opts, keys[i].key, keys[i].group, &groups, err))
            return false;
    ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return error_set(err, ERR_GENERIC, "-sandbox: no system call filter could be made", NULL);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);    /* threads that libraries have started as well */
    for (unsigned i = 0; !r && i < G_N_ELEMENTS(refused); i++)
        if (refused[i].group & groups)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), refused[i].call, 0);
    /* clone() makes threads too: refused is what does not share memory (CLONE_VM). clone3()'s flags cannot be seen;
     * the C library falls back to clone() on ENOSYS. */
    if (!r && (groups & GROUP_SPAWN)) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_VM, 0));
        if (!r)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    }
    if (!r)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return !r || error_set_errno(err, -r, "the host's kernel must have seccomp filters",
                                 "-sandbox: the system call filter was refused");
}

/* ---- -chroot, -runas */

static bool find_user(const char *name, uid_t *uid, gid_t *gid, char **login, struct error *err)
{
    struct passwd *pw = getpwnam(name);
    unsigned u, g;
    char rest;

    *login = NULL;
    if (pw) {
        *uid = pw->pw_uid;
        *gid = pw->pw_gid;
        *login = g_strdup(pw->pw_name);
        return true;
    }
    if (sscanf(name, "%u:%u%c", &u, &g, &rest) == 2) {
        *uid = u;
        *gid = g;
        return true;
    }
    return error_setf(err, ERR_GENERIC, "name a user, or write UID:GID", "-runas %s: there is no such user", name);
}

bool jail_enter(struct cmdline *c, struct error *err)
{
    g_autofree char *login = NULL;
    uid_t uid = 0;
    gid_t gid = 0;

    if (c->runas && !find_user(c->runas, &uid, &gid, &login, err))
        return false;
    if (c->chroot_dir && (chroot(c->chroot_dir) || chdir("/")))
        return error_set_errno(err, errno, "it must exist, and only root may do this", "-chroot %s", c->chroot_dir);
    if (!c->runas)
        return true;
    if (setgid(gid) || (login ? initgroups(login, gid) : setgroups(1, &gid)) || setuid(uid))
        return error_set_errno(err, errno, "only root may change the user", "-runas %s", c->runas);
    if (uid && (!setuid(0) || !seteuid(0)))
        return error_setf(err, ERR_GENERIC, NULL, "-runas %s: the rights of root could be taken back", c->runas);
    return true;
}
