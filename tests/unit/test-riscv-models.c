/* -cpu of the RISC-V guests: what models have, what options bring and take, what is refused; ISA strings. */
#include <glib.h>
#include <string.h>
#include "guest/riscv/system.h"

static char *isa(const char *spec, bool rv32)
{
    struct riscv_identity id;
    struct error err = { 0 };

    g_assert_true(riscv_identity_parse(&id, spec, rv32, &err));
    return riscv_isa_string(&id.features);
}

static void has(const char *spec, bool rv32, const char *extension, bool wanted)
{
    g_autofree char *s = isa(spec, rv32), *word = g_strdup_printf("_%s_", extension), *all = g_strdup_printf("%s_", s);

    if ((strstr(all, word) != NULL) != wanted)
        g_error("-cpu %s: '%s' is %s in %s", spec, extension, wanted ? "not" : "still", s);
}

static void refused(const char *spec, bool rv32, const char *why)
{
    struct riscv_identity id;
    struct error err = { 0 };

    g_assert_false(riscv_identity_parse(&id, spec, rv32, &err));
    if (!strstr(err.msg, why))
        g_error("-cpu %s: '%s' says nothing of '%s'", spec, err.msg, why);
    error_clear(&err);
}

static void defaults(void)
{
    g_autofree char *wide = isa(NULL, false), *narrow = isa("", true), *base = isa("rv64i", false);

    g_assert_true(g_str_has_prefix(wide, "rv64imafdc_zicbom_"));
    g_assert_true(g_str_has_prefix(narrow, "rv32imafdc_zicbom_"));
    g_assert_true(g_str_has_prefix(base, "rv64i_"));
    has("rv64", false, "zcd", true);
    has("rv64", false, "zcf", false);
    has("rv32", true, "zcf", true);
    has("max", false, "zknd", true);
    has("max", false, "svade", false);
    has("max", true, "svnapot", false);
    has("rva22s64", false, "svpbmt", true);
}

static void options(void)
{
    has("rv64,zicond=on", false, "zicond", true);
    has("rv64,+zicond", false, "zicond", true);
    has("rv64,-zba", false, "zba", false);
    has("rv64,b=off", false, "zbs", false);
    has("rv64,zfh=true", false, "zfhmin", true);
    has("rv64,c=off", false, "zca", false);
    has("rv64,f=off,d=off", false, "zfa", false);
    has("rv64,f=off", false, "zcd", false);
    has("rv64,zkn=on", false, "zknh", true);
    has("rv64i,zacas=on", false, "zaamo", true);
    has("rv64,s=off", false, "sstc", false);
    has("rv64,mvendorid=0x602,vlen=256,priv_spec=v1.12.0", false, "zba", true);
}

static void errors(void)
{
    refused("rv128", false, "no CPU model");
    refused("rv64", true, "no CPU model");
    refused("rv64,v=on", false, "does not implement");
    refused("rv64,h=true", false, "does not implement");
    refused("rv64,d=on,f=off", false, "needs 'f'");
    refused("rv64,zbq=on", false, "zbq");
    refused("rv64,zba=perhaps", false, "perhaps");
    refused("rv32,svnapot=on", true, "32-bit");
    refused("rv64,i=off", false, "without 'i'");
    refused("rv64,cbom_blocksize=128", false, "cache blocks");
    refused("rv64,mvendorid=x", false, "x");
}

static void translation_modes(void)
{
    struct riscv_identity id;
    struct error err = { 0 };

    g_assert_true(riscv_identity_parse(&id, "rv64,sv48=off", false, &err));
    g_assert_true(RISCV_HAS(&id.features, Sv39));
    g_assert_false(RISCV_HAS(&id.features, Sv48));
    g_assert_false(RISCV_HAS(&id.features, Sv57));
    g_assert_true(riscv_identity_parse(&id, "rv64,mmu=off,pmp=false", false, &err));
    g_assert_false(RISCV_HAS(&id.features, Sv39));
    g_assert_false(RISCV_HAS(&id.features, Pmp));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/models/defaults", defaults);
    g_test_add_func("/riscv/models/options", options);
    g_test_add_func("/riscv/models/errors", errors);
    g_test_add_func("/riscv/models/translation_modes", translation_modes);
    return g_test_run();
}
