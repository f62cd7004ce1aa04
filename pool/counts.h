/* pool/counts.h - pool/counts.def as code: plain integers that one worker writes. */
#ifndef POOL_COUNTS_H
#define POOL_COUNTS_H

#include <stdint.h>

struct pool_counts {
#define COUNT(name, average) uint64_t name;
#define EVENT(name) uint64_t name;
#include "pool/counts.def"
};

static inline void pool_counts_add(struct pool_counts *to, const struct pool_counts *one)
{
#define COUNT(name, average) to->name += one->name;
#define EVENT(name) to->name += one->name;
#include "pool/counts.def"
}

#endif
