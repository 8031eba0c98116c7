#include "x86.h"
EMIT(undefined) { }
EMIT(too_long) { }
