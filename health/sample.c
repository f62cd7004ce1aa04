#include "health/sample.h"

void sample_copy_text(char *to, size_t size, const char *from)
{
    size_t i = 0;

    for (; i + 1 < size && from[i] != '\0'; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[i] = '\0';
}

const char *sample_source_name(enum sample_source source)
{
    switch (source) {
    case SOURCE_NOBODY:
        return "";
    case SOURCE_PATRONI:
        return "patroni";
    case SOURCE_POSTGRES:
        return "postgres";
    case SOURCE_TCP:
        return "tcp";
    case SOURCE_ETCD:
        return "etcd";
    }
    UNREACHABLE();
}
