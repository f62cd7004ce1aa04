#include "router/close_reason.h"

const struct close_fact close_facts[CLOSE_REASON_COUNT] = {
#define CLOSE(name, kind, fault, sqlstate, text) \
    [CLOSE_##name] = {#name, CLOSE_KIND_##kind, CLOSE_FAULT_##fault, sqlstate, text},
#include "router/close_reason.def"
};
