/* The first process of a guest that waits for its power button: loads the driver from the installer's initramfs, says "ready",
 * says that the button was pressed, and powers off. There is no driver here that hands out the keys themselves, so it looks
 * at the key's interrupts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void module(const char *path)
{
    struct utsname u;
    char name[256];
    int fd;

    uname(&u);
    snprintf(name, sizeof(name), "/lib/modules/%s/kernel/%s", u.release, path);
    fd = open(name, O_RDONLY);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
        printf("%s: %s\n", name, strerror(errno));
    close(fd);
}

/* Interrupts of the key so far, on the first CPU and the second; -1: it is not there. */
static long presses(void)
{
    FILE *f = fopen("/proc/interrupts", "r");
    char row[512];
    long n = -1;

    while (f && fgets(row, sizeof(row), f)) {
        char *count = strchr(row, ':');

        if (strstr(row, "GPIO Key Poweroff") && count) {
            n = strtol(count + 1, &count, 10);
            n += strtol(count, NULL, 10);
        }
    }
    if (f)
        fclose(f);
    return n;
}

static void keys(void)
{
    FILE *f = fopen("/proc/bus/input/devices", "r");
    char row[512];

    while (f && fgets(row, sizeof(row), f))
        if (!strncmp(row, "N:", 2) || !strncmp(row, "B: KEY", 6))
            fputs(row, stdout);
    if (f)
        fclose(f);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, "");
    module("drivers/input/keyboard/gpio_keys.ko");
    while (presses() < 0)               /* the GPIO's driver may come later */
        usleep(100000);
    keys();
    puts("ready for the button");
    while (presses() == 0)
        usleep(10000);
    puts("the button was pressed");
    reboot(RB_POWER_OFF);
    return 0;
}
