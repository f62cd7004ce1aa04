#include "router/container.h"

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static const char *first_of(const char *const paths[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (access(paths[i], F_OK) == 0)
            return paths[i];
    return NULL;
}

bool container_find_file(const char **path)
{
    static const char *const ours[] = {"/etc/pgrouter/pgrouter.ini",
                                       "/etc/pgbouncer/pgbouncer.ini"};
    static const char *const of_haproxy[] = {"/usr/local/etc/haproxy/haproxy.cfg",
                                             "/etc/haproxy/haproxy.cfg"};
    const char *foreign = first_of(of_haproxy, COUNT_OF(of_haproxy));

    *path = first_of(ours, COUNT_OF(ours));
    if (foreign != NULL)
        fprintf(stderr,
                "pgrouter: %s is not read by this version; say the same in %s or by "
                "POSTGRES_NODES and HAPROXY_*, and mount it no more\n",
                foreign, ours[0]);
    return foreign == NULL;
}
