/* { word, mnemonic of its row, fields }, with the assembler's text. */
{ 0x91448c41, "add", "sf=1 sub=0 sh=1 imm12=0x123 rn=2 rd=1" }, /* add x1, x2, #0x123, lsl #12 */
{ 0x713fffe3, "adds", "sf=0 sub=1 sh=0 imm12=4095 rn=31 rd=3" }, /* subs w3, wsp, #0xfff */
{ 0x92009ca4, "and", "sf=1 immn=0 rn=5 rd=4" }, /* and x4, x5, #0xff00ff00ff00ff */
{ 0x320104e6, "orr", "sf=0 immn=0 immr=1 imms=1 rn=7 rd=6" }, /* orr w6, w7, #0x80000001 */
{ 0x12bfffe8, "movn", "sf=0 hw=1 imm16=0xffff rd=8" }, /* movn w8, #0xffff, lsl #16 */
{ 0xf2e24689, "movk", "sf=1 hw=3 imm16=0x1234 rd=9" }, /* movk x9, #0x1234, lsl #48 */
{ 0xd3474d6a, "ubfm", "sf=1 immr=7 imms=19 rn=11 rd=10" }, /* ubfx x10, x11, #7, #13 */
{ 0x531b69ac, "ubfm", "sf=0 immr=27 imms=26 rn=13 rd=12" }, /* lsl w12, w13, #5 */
{ 0x937ffdee, "sbfm", "sf=1 immr=63 imms=63 rn=15 rd=14" }, /* asr x14, x15, #63 */
{ 0xb3440e30, "bfm", "sf=1 immr=4 imms=3 rn=17 rd=16" }, /* bfi x16, x17, #60, #4 */
{ 0x93d45672, "extr", "sf=1 rm=20 imms=21 rn=19 rd=18" }, /* extr x18, x19, x20, #21 */
{ 0x13967ed5, "extr", "sf=0 rm=22 imms=31 rn=22 rd=21" }, /* ror w21, w22, #31 */
{ 0x90000017, "adrp", "imm21=0 rd=23" }, /* adrp x23, 0 */
{ 0x16000000, "b", "imm26=-0x8000000" }, /* b ... */
{ 0x95ffffff, "bl", "imm26=0x7fffffc" }, /* bl 8000034 */
{ 0x35800018, "cbz", "sf=0 op=1 imm19=-0x100000 rt=24" }, /* cbnz w24, ... */
{ 0xb6fbfff9, "tbz", "bit=63 op=0 imm14=0x7ffc rt=25" }, /* tbz x25, #63, 803c */
{ 0x547fffed, "b.cond", "imm19=0xffffc cond=13" }, /* b.le 100040 */
{ 0xd71f0b5f, "braa", "key=0 rn=26 rm=31" }, /* braa x26, sp */
{ 0xd65f0fff, "retaa", "key=1" }, /* retab */
{ 0xd69f03e0, "eret", "" }, /* eret */
{ 0xd41fffe1, "svc", "imm16=0xffff" }, /* svc #0xffff */
{ 0xd503243f, "hint", "hint=33" }, /* hint #0x21 */
{ 0xd50324df, "hint", "hint=38" }, /* bti jc */
{ 0xd5033a9f, "dsb", "crm=10" }, /* dsb ishst */
{ 0xd5033fdf, "isb", "" }, /* isb */
{ 0xd5034fdf, "msr_imm", "op1=3 op2=6 crm=15" }, /* msr daifset, #0xf */
{ 0xd53bd05b, "mrs", "sysreg=0x5e82 rt=27" }, /* mrs x27, tpidr_el0 */
{ 0xd518201c, "msr", "sysreg=0x4100 rt=28" }, /* msr ttbr0_el1, x28 */
{ 0xd50b743d, "sys", "op1=3 crn=7 crm=4 op2=1 rt=29" }, /* dc zva, x29 */
{ 0xba1f842f, "rmif", "imm6=63 rn=1 mask=15" }, /* rmif x1, #63, #15 */
{ 0xfa5fd84f, "ccmp", "sf=1 sub=1 imm5=31 cond=13 rn=2 nzcv=15" }, /* ccmp x2, #0x1f, #0xf, le */
{ 0x5a856083, "csel", "sf=0 inv=1 inc=0 cond=6 rm=5 rn=4 rd=3" }, /* csinv w3, w4, w5, vs */
{ 0x9ba824e6, "smaddl", "u=1 sub=0 rm=8 ra=9 rn=7 rd=6" }, /* umaddl x6, w7, w8, x9 */
{ 0x9b4c7d6a, "smulh", "u=0 rm=12 rn=11 rd=10" }, /* smulh x10, x11, x12 */
{ 0x9acf5dcd, "crc32", "c=1 size=3 rm=15 rn=14 rd=13" }, /* crc32cx w13, w14, x15 */
{ 0xdac00630, "rev16", "sf=1 rn=17 rd=16" }, /* rev16 x16, x17 */
{ 0xdac147f2, "xpac", "key=1 rd=18" }, /* xpacd x18 */
{ 0xdac13bf3, "autz", "key=2 rd=19" }, /* autdza x19 */
{ 0xeaf6feb4, "ands", "sf=1 shift=3 inv=1 imm6=63 rm=22 rn=21 rd=20" }, /* bics x20, x21, x22, ror #63 */
{ 0x2b987eff, "adds", "sf=0 sub=0 shift=2 imm6=31 rm=24 rn=23 rd=31" }, /* cmn w23, w24, asr #31 */
{ 0xcb3a533f, "add", "sf=1 sub=1 option=2 imm3=4 rm=26 rn=25 rd=31" }, /* sub sp, x25, w26, uxtw #4 */
{ 0xfa1d039b, "adcs", "sf=1 sub=1 rm=29 rn=28 rd=27" }, /* sbcs x27, x28, x29 */
{ 0x0801ffe2, "stxr", "size=0 rs=1 rel=1 rn=31 rt=2" }, /* stlxrb w1, w2, [sp] */
{ 0xc87f90a3, "ldxp", "size=1 acq=1 rt2=4 rn=5 rt=3" }, /* ldaxp x3, x4, [x5] */
{ 0x88e6fd07, "cas", "size=2 acq=1 rel=1 rs=6 rn=8 rt=7" }, /* casal w6, w7, [x8] */
{ 0x482afdcc, "casp", "size=1 acq=0 rel=1 rs=10 rn=14 rt=12" }, /* caspl x10, x11, x12, x13, [x14] */
{ 0x5880000f, "ldr", "imm19=-0x100000 rt=15" }, /* ldr x15, ... */
{ 0x987ffff0, "ldrsw", "imm19=0xffffc rt=16" }, /* ldrsw x16, 1000bc */
{ 0x68e04a71, "ldpsw", "index=1 imm7=-64 rt2=18 rn=19 rt=17" }, /* ldpsw x17, x18, [x19], #-256 */
{ 0xa99fd7f4, "stp", "index=3 imm7=63 rt2=21 rn=31 rt=20" }, /* stp x20, x21, [sp, #504]! */
{ 0x287fdf16, "ldp", "index=0 imm7=-1 rt2=23 rn=24 rt=22" }, /* ldnp w22, w23, [x24, #-4] */
{ 0x38100759, "str", "size=0 imm9=-256 index=1 rn=26 rt=25" }, /* strb w25, [x26], #-256 */
{ 0x78cfff9b, "ldr", "size=1 opc=3 imm9=255 index=3 rn=28 rt=27" }, /* ldrsh w27, [x28, #255]! */
{ 0xb89ffbdd, "ldr", "size=2 opc=2 imm9=-1 index=2 rn=30 rt=29" }, /* ldtrsw x29, [x30, #-1] */
{ 0xf863d841, "ldr", "size=3 opc=1 option=6 sh=1 rm=3 rn=2 rt=1" }, /* ldr x1, [x2, w3, sxtw #3] */
{ 0xb93ffca4, "str", "size=2 imm12=4095 rn=5 rt=4" }, /* str w4, [x5, #16380] */
{ 0xf98000c0, "prfm", "imm12=0 rn=6 rt=0" }, /* prfm pldl1keep, [x6] */
{ 0xf8e00d07, "ldraa", "key=1 imm10=-512 wback=1 rn=8 rt=7" }, /* ldrab x7, [x8, #-4096]! */
{ 0x19cff149, "ldapur", "size=0 opc=3 imm9=255 rn=10 rt=9" }, /* ldapursb w9, [x10, #255] */
{ 0xf8eb43ec, "ldminmax", "size=3 acq=1 rel=1 opc=0 rs=11 rn=31 rt=12" }, /* ldsmaxal x11, x12, [sp] */
{ 0x38ad81ee, "swp", "size=0 acq=1 rel=0 rs=13 rn=15 rt=14" }, /* swpab w13, w14, [x15] */
{ 0x78bfc230, "ldapr", "size=1 rn=17 rt=16" }, /* ldaprh w16, [x17] */
{ 0x1ad40a72, "udiv", "sf=0 rm=20 rn=19 rd=18" }, /* udiv w18, w19, w20 */
{ 0xd500401f, "cfinv", "" }, /* cfinv */
{ 0x3a004aad, "setf16", "rn=21" }, /* setf16 w21 */
{ 0xd5031016, "wfet", "rt=22" }, /* wfet x22 */
