/* See oracle.h. */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "oracle.h"

static GPid oracle_pid;
static int to_oracle = -1, from_oracle = -1;
static char *program[5];                /* what is run, with its arguments */

/* The emulator and the runner, or an oracle that is one program; made if need be. */
static void oracle_programs(const char *guest, const char *cpu)
{
    g_autofree char *script = g_build_filename(ISA_ORACLE_DIR, "make.sh", NULL);
    char *argv[] = { script, (char *)guest, (char *)ISA_ORACLE_BUILD, NULL };
    g_autofree char *out = NULL;
    g_auto(GStrv) line = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, &out, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    line = g_strsplit(out, "\n", 3);
    g_assert_cmpuint(g_strv_length(line), >=, 2);
    program[0] = g_strdup(line[0]);
    if (cpu) {
        program[1] = g_strdup("-cpu");
        program[2] = g_strdup(cpu);
        program[3] = g_strdup(line[1]);
    }
}

static void spawn(void)
{
    g_assert_true(g_spawn_async_with_pipes(NULL, program, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                                           &oracle_pid, &to_oracle, &from_oracle, NULL, NULL));
}

void oracle_start(const char *guest, const char *cpu)
{
    signal(SIGPIPE, SIG_IGN);
    oracle_programs(guest, cpu);
    spawn();
}

void oracle_stop(void)
{
    if (to_oracle < 0)
        return;
    close(to_oracle);
    close(from_oracle);
    to_oracle = -1;
    waitpid(oracle_pid, NULL, 0);
}

static bool transfer(bool out, void *at, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = out ? write(to_oracle, (char *)at + done, n - done) : read(from_oracle, (char *)at + done, n - done);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

void oracle_run(const struct case_request *cases, struct case_state *results, unsigned first, unsigned end)
{
    uint32_t batch[2] = { first, end };
    unsigned n = end - first;

    if (transfer(true, batch, sizeof(batch)) && transfer(true, (void *)&cases[first], n * sizeof(*cases)) &&
        transfer(false, &results[first], n * sizeof(*results)))
        return;
    oracle_stop();
    spawn();
    if (n == 1) {
        results[first].signal = CASE_DIED;
        return;
    }
    oracle_run(cases, results, first, first + n / 2);
    oracle_run(cases, results, first + n / 2, end);
}
