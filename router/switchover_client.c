#include "router/switchover_client.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "router/healthcheck.h"

/* How long the login may take. */
#define PATIENCE_S "10"

/* ---- where the console is -----------------------------------------------------------
 */

/* Whether libpq can be told so: it knows unix sockets by folder and number only. */
static bool is_reachable(const struct endpoint *endpoint)
{
    const char *name = endpoint->path == NULL ? NULL : strrchr(endpoint->path, '/');

    return name == NULL ||
           (strncmp(name, "/.s.PGSQL.", 10) == 0 &&
            name[10 + strspn(name + 10, "0123456789")] == '\0' && name[10] != '\0');
}

/* A unix socket is preferred: it leads to this machine, whatever the network is. */
static const struct endpoint *find_console(const struct config *config)
{
    const struct endpoint *found = NULL;

    for (size_t i = 0; i < config->n_listeners; i++) {
        const struct listener_config *listener = &config->listeners[i];

        if (listener->mode != MODE_POOL || listener->proxy_protocol)
            continue;
        for (size_t k = 0; k < listener->bind.n; k++) {
            const struct endpoint *endpoint = &listener->bind.items[k];

            if (is_reachable(endpoint) &&
                (found == NULL || (found->path == NULL && endpoint->path != NULL)))
                found = endpoint;
        }
    }
    return found;
}

/* `user`: NULL = as libpq has it. */
static PGconn *connect_to(const struct endpoint *endpoint, const char *user)
{
    const char *names[] = {
        "host", "port", "user", "dbname", "connect_timeout", "fallback_application_name",
        NULL};
    const char *values[] = {NULL,       NULL,       user, CONFIG_POOL_LISTENER,
                            PATIENCE_S, "pgrouter", NULL};
    struct text host, port;
    PGconn *connection = NULL;

    text_init(&host, 4096);
    text_init(&port, 64);
    if (endpoint->path != NULL) {
        const char *name = strrchr(endpoint->path, '/');

        text_add_n(&host, endpoint->path, (size_t)(name - endpoint->path));
        text_add(&port, name + 10);
    } else {
        text_add(&host, healthcheck_host_of(endpoint));
        text_addf(&port, "%u", (unsigned)endpoint->port);
    }
    values[0] = text_get(&host);
    values[1] = text_get(&port);
    if (!host.overflowed && !port.overflowed)
        connection = PQconnectdbParams(names, values, 0);
    text_clear(&host);
    text_clear(&port);
    return connection;
}

/* ---- what is asked, and answered ----------------------------------------------------
 */

/* False: it has a quote, which no name has. */
static bool add_quoted(struct text *out, const char *keyword, const char *value)
{
    if (value == NULL)
        return true;
    text_addf(out, " %s%s\"%s\"", keyword, *keyword == '\0' ? "" : " ", value);
    return strchr(value, '"') == NULL;
}

static bool write_command(const struct switchover_wish *wish, struct text *out)
{
    text_add(out, "SWITCHOVER");
    return add_quoted(out, "", wish->cluster) && add_quoted(out, "TO", wish->to) &&
           add_quoted(out, "TIMEOUT", wish->timeout) && !out->overflowed;
}

static void print_steps(const PGresult *result)
{
    for (int i = 0; i < PQntuples(result); i++)
        printf("%-8s %6s ms  %s\n", PQgetvalue(result, i, 0), PQgetvalue(result, i, 1),
               PQgetvalue(result, i, 2));
}

static bool ask(PGconn *connection, const char *command)
{
    PGresult *result;
    bool ok;

    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "pgrouter: %s", PQerrorMessage(connection));
        return false;
    }
    result = PQexec(connection, command);
    ok = PQresultStatus(result) == PGRES_TUPLES_OK && PQnfields(result) == 3;
    if (ok)
        print_steps(result);
    else if (PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) != NULL)
        fprintf(stderr, "pgrouter: %s\n",
                PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    else
        fprintf(stderr, "pgrouter: %s", PQerrorMessage(connection));
    PQclear(result);
    return ok;
}

bool switchover_client_run(const struct config *config,
                           const struct switchover_wish *wish)
{
    const struct name_list *admins = &config->main.admin_users;
    const char *user =
        getenv("PGUSER") == NULL && admins->n > 0 ? admins->items[0] : NULL;
    const struct endpoint *endpoint = find_console(config);
    PGconn *connection;
    struct text command;
    bool ok = false;

    text_init(&command, 4096);
    if (!write_command(wish, &command)) {
        fputs("pgrouter: no such name\n", stderr);
    } else if (endpoint == NULL) {
        fputs("pgrouter: no listener with mode = pool, where the console is\n", stderr);
    } else {
        connection = connect_to(endpoint, user);
        if (connection == NULL)
            fputs("pgrouter: out of memory\n", stderr);
        else
            ok = ask(connection, text_get(&command));
        PQfinish(connection);
    }
    text_clear(&command);
    return ok;
}
