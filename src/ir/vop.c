/* The table of vector operations, a row each in include/rhea/ir/vop.def. */
#include "rhea/ir/vop.h"

#define VOP(id, ...) vop_fn vop_fn_##id;
#include "rhea/ir/vop.def"
#undef VOP

const struct vop_info vop_info[VOP_COUNT] = {
    [VOP_NONE] = { .text = "vnone", .form = VF_CUSTOM, .feature = HF_NEVER },
#define VOP(id, text_, form_, operands_, pp_, map_, opcode_, ext_, flags_, feature_)                                  \
    [VOP_##id] = { .text = text_, .fn = vop_fn_##id, .form = form_, .operands = operands_, .pp = pp_, .map = map_,    \
                   .opcode = opcode_, .ext = ext_, .flags = flags_, .feature = feature_ },
#include "rhea/ir/vop.def"
#undef VOP
};
