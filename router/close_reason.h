/* router/close_reason.h - why a client's connection ended: router/close_reason.def as
 * code. */
#ifndef ROUTER_CLOSE_REASON_H
#define ROUTER_CLOSE_REASON_H

enum close_reason {
#define CLOSE(name, kind, fault, sqlstate, text) CLOSE_##name,
#include "router/close_reason.def"
    CLOSE_REASON_COUNT
};

enum close_kind { CLOSE_KIND_QUIET, CLOSE_KIND_SESSION, CLOSE_KIND_REFUSAL };

enum close_fault { CLOSE_FAULT_NOBODY, CLOSE_FAULT_CLIENT, CLOSE_FAULT_SERVER };

struct close_fact {
    const char *name;
    enum close_kind kind;
    enum close_fault fault;
    const char *sqlstate;
    const char *text;
};

extern const struct close_fact close_facts[CLOSE_REASON_COUNT];

#endif
