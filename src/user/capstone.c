/* The disassembler library's parts for processors that are neither host nor guests: these functions stand for them, so that the static
 * program is linked without their tables. Those are full of addresses, a megabyte and more that each process would have to relocate,
 * page by page, at its start. */
#include <capstone/capstone.h>

#define WITHOUT(arch)                                                                                                   \
    cs_err arch##_global_init(void *handle);                                                                            \
    cs_err arch##_option(void *handle, cs_opt_type type, size_t value);                                                 \
    cs_err arch##_global_init(void *handle) { return CS_ERR_ARCH; }                                                     \
    cs_err arch##_option(void *handle, cs_opt_type type, size_t value) { return CS_ERR_OPTION; }

WITHOUT(EVM)
WITHOUT(M680X)
WITHOUT(M68K)
WITHOUT(Mips)
WITHOUT(PPC)
WITHOUT(Sparc)
WITHOUT(SystemZ)
WITHOUT(TMS320C64x)
WITHOUT(XCore)
