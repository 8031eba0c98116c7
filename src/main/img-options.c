/* rhea-img -o help: what the options of new images mean. */
#include "main/img.h"

#include <stdio.h>
#include <string.h>

/* One text for all formats that know the name. */
static const struct { const char *name, *text; } texts[] = {
    { "adapter_type", "disk controller that is announced: ide, lsilogic, buslogic, legacyESX" },
    { "backing_file", "the image it is based on" },
    { "backing_fmt", "format of backing_file" },
    { "block_size", "bytes that are allocated at a time (a power of two from 1M to 256M)" },
    { "block_state_zero", "on, off: blocks never written are marked as zeroes" },
    { "cipher-alg", "cipher: aes-256, aes-128, serpent-256, twofish-256, ..." },
    { "cipher-mode", "its mode: xts, cbc, ctr, ecb" },
    { "cluster_size", "bytes that are allocated at a time" },
    { "compat", "0.10 (v2) or 1.1 (v3, the default)" },
    { "compat6", "on, off: for VMware's hardware version 6" },
    { "compression_type", "of compressed clusters: zlib or zstd" },
    { "data_file", "a raw file that holds the data" },
    { "data_file_raw", "on, off: data_file is at all times what the guest sees" },
    { "detached-header", "on, off: the header alone" },
    { "encryption", "off; on is refused: use encrypt.format=luks" },
    { "extended_l2", "on, off: 32 subclusters a cluster" },
    { "extent_size_hint", "hint to the host's file system" },
    { "force_size", "on, off: the size as given, not rounded to a geometry" },
    { "format", "luks" },
    { "hash-alg", "hash of the key derivation: sha256, sha512, ..." },
    { "header", "file that takes the header" },
    { "hwversion", "hardware version that is announced" },
    { "iter-time", "milliseconds that deriving the key takes" },
    { "ivgen-alg", "how initial values are made: plain64, plain, essiv" },
    { "ivgen-hash-alg", "hash of essiv" },
    { "key-secret", "id of the --object secret that holds the password" },
    { "keyslot", "the slot that is changed" },
    { "lazy_refcounts", "on, off: counts may be mended after a crash" },
    { "log_size", "bytes of the log (from 1M)" },
    { "new-secret", "id of the secret with the new password" },
    { "nocow", "on, off: hint to the host's file system (btrfs)" },
    { "old-secret", "id of the secret whose slots are erased" },
    { "preallocation", "off, metadata, falloc, full" },
    { "refcount_bits", "width of a reference count: 1 to 64, a power of two" },
    { "size", "bytes of the disk: 512, 64K, 1.5G" },
    { "state", "active, inactive: what becomes of the slots" },
    { "static", "on, off: allocated whole" },
    { "subformat", "vmdk: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized; others: dynamic, fixed" },
    { "table_size", "clusters of an L1 or L2 table" },
    { "toolsversion", "version of the guest's tools that is announced" },
    { "zeroed_grain", "on, off: zeroes take no place" },
};

static const char *text_of(const char *name)
{
    if (g_str_has_prefix(name, "encrypt."))     /* of an image that is encrypted within */
        name += strlen("encrypt.");
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        if (!strcmp(texts[i].name, name))
            return texts[i].text;
    return "";
}

bool img_wants_options(const struct img *c)
{
    return json_object_object_get_ex(c->opts, "help", NULL) || json_object_object_get_ex(c->opts, "?", NULL);
}

void img_list_options(const char *format, const char *const *names)
{
    printf("Supported %s options:\n", format);
    for (; names && *names; names++)
        printf("  %-23s %s\n", *names, text_of(*names));
}
