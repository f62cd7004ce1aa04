/* router/main.c - the command line: everything else is a setting. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "health/trust.h"
#include "pool/security.h"
#include "router/container.h"
#include "router/control.h"
#include "router/healthcheck.h"
#include "router/switchover_client.h"
#include "router/top.h"

static const char help[] =
    "Usage: pgrouter [OPTION] [FILE.ini]\n"
    "       pgrouter [--container] healthcheck [FILE.ini]\n"
    "       pgrouter [--container] switchover [--cluster NAME] [--to NODE] [--timeout "
    "S]\n"
    "                [FILE.ini]\n"
    "       pgrouter top [--once] [--interval S] [HOST:PORT | CONNINFO]\n"
    "\n"
    "Routes PostgreSQL connections to the primary and the replicas of a Patroni "
    "cluster.\n"
    "Without a file the environment is the configuration: POSTGRES_NODES, HAPROXY_*, "
    "DATABASE_URL\n"
    "and others. healthcheck asks the process that runs with the same configuration "
    "whether it is\n"
    "alive: exit status 0 or 1.\n"
    "switchover has that process hold its clients, let their transactions end, ask "
    "Patroni for\n"
    "another primary, and go on with it; prints its time line, or why it did not come "
    "about: exit\n"
    "status 0 or 1. It logs in to the console as PGUSER, else the first of admin_users, "
    "with\n"
    "PGPASSWORD or ~/.pgpass. To interrupt it ends the waiting, not the switchover.\n"
    "\n"
    "      --cluster NAME  which one; may be left out where there is one\n"
    "      --to NODE       who is to be the primary; without it Patroni chooses\n"
    "      --timeout S     how long transactions may go on before Patroni is asked, in "
    "place of\n"
    "                      switchover_drain_timeout; after that they are lost\n"
    "\n"
    "  -t, --test       check the configuration, say what is wrong with it, and exit\n"
    "      --container  without FILE.ini: /etc/pgrouter/pgrouter.ini or\n"
    "                   /etc/pgbouncer/pgbouncer.ini, where one is mounted\n"
    "      --settings   print every setting with its default and what it does\n"
    "      --markdown   with --settings: as docs/settings.md has it\n"
    "  -V, --version    print the version\n"
    "  -h, --help       print this\n"
    "\n"
    "Signals: HUP reloads the file; TERM accepts no more clients and ends with the last\n"
    "session; INT also sends away those who wait; a second one of these, or QUIT, ends "
    "now.\n";

enum {
    OPTION_SETTINGS = 256,
    OPTION_MARKDOWN,
    OPTION_CONTAINER,
    OPTION_CLUSTER,
    OPTION_TO,
    OPTION_TIMEOUT
};

/* What is to be done with the configuration. */
enum task { TASK_RUN, TASK_TEST, TASK_HEALTHCHECK, TASK_SWITCHOVER };

static const struct option options[] = {
    {"test", no_argument, NULL, 't'},
    {"settings", no_argument, NULL, OPTION_SETTINGS},
    {"markdown", no_argument, NULL, OPTION_MARKDOWN},
    {"container", no_argument, NULL, OPTION_CONTAINER},
    {"cluster", required_argument, NULL, OPTION_CLUSTER},
    {"to", required_argument, NULL, OPTION_TO},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int print_settings(bool markdown)
{
    struct text text;
    bool ok;

    text_init(&text, 1 << 20);
    config_describe(&text, markdown);
    ok = !text.overflowed && fputs(text_get(&text), stdout) >= 0;
    text_clear(&text);
    return ok ? 0 : 1;
}

static int print_errors(struct text *errors)
{
    fputs(text_get(errors), stderr);
    text_clear(errors);
    return 1;
}

/* Whether the certificates and keys are such that a start would take them. */
static bool check_security(const struct config *config, struct text *errors)
{
    struct tls_registry *registry = tls_registry_new();
    struct security *security =
        registry != NULL ? security_new(registry, config, NULL, errors) : NULL;
    bool is_fine = security != NULL;

    for (size_t i = 0; i < config->n_clusters; i++)
        is_fine = registry != NULL &&
                  trust_check_etcd(registry, &config->clusters[i], errors) &&
                  trust_check_restapi(registry, &config->clusters[i], errors) && is_fine;
    security_release(security);
    tls_registry_free(registry);
    return is_fine;
}

static int serve(struct config *config, const struct config_source *source)
{
    int status;

    if (!log_start()) {
        fputs("pgrouter: cannot start a thread\n", stderr);
        return 1;
    }
    status = control_run(config, source);
    log_stop();
    return status;
}

static int run(const struct config_source *source, enum task task,
               const struct switchover_wish *wish)
{
    struct config *config;
    struct text errors;
    int status = 0;

    text_init(&errors, 1 << 20);
    config = config_source_load(source, &errors);
    if (config == NULL)
        return print_errors(&errors);
    switch (task) {
    case TASK_RUN:
        text_clear(&errors);
        status = serve(config, source);
        break;
    case TASK_TEST:
        if (check_security(config, &errors))
            printf("%s: ok\n", source->path == NULL ? "environment" : source->path);
        else
            status = print_errors(&errors);
        break;
    case TASK_HEALTHCHECK:
        status = healthcheck_run(config) ? 0 : 1;
        break;
    case TASK_SWITCHOVER:
        status = switchover_client_run(config, wish) ? 0 : 1;
        break;
    }
    text_clear(&errors);
    config_release(config);
    return status;
}

int main(int argc, char **argv)
{
    bool settings = false, markdown = false, in_container = false;
    enum task task = TASK_RUN;
    struct config_source source = {0};
    struct switchover_wish wish = {NULL};
    int option;

    if (argc > 1 && strcmp(argv[1], "top") == 0)
        return top_run(argc - 1, argv + 1);
    while ((option = getopt_long(argc, argv, "tVh", options, NULL)) != -1) {
        switch (option) {
        case 't':
            task = TASK_TEST;
            break;
        case OPTION_CONTAINER:
            in_container = true;
            break;
        case OPTION_CLUSTER:
            wish.cluster = optarg;
            break;
        case OPTION_TO:
            wish.to = optarg;
            break;
        case OPTION_TIMEOUT:
            wish.timeout = optarg;
            break;
        case OPTION_SETTINGS:
            settings = true;
            break;
        case OPTION_MARKDOWN:
            markdown = true;
            break;
        case 'V':
            puts("pgrouter " PGROUTER_VERSION);
            return 0;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            fputs("Try pgrouter --help.\n", stderr);
            return 1;
        }
    }
    if (settings)
        return print_settings(markdown);
    if (optind < argc && strcmp(argv[optind], "healthcheck") == 0) {
        task = TASK_HEALTHCHECK;
        optind++;
    } else if (optind < argc && strcmp(argv[optind], "switchover") == 0) {
        task = TASK_SWITCHOVER;
        optind++;
    }
    if (task != TASK_SWITCHOVER &&
        (wish.cluster != NULL || wish.to != NULL || wish.timeout != NULL)) {
        fputs("pgrouter: --cluster, --to and --timeout are switchover's. Try pgrouter "
              "--help.\n",
              stderr);
        return 1;
    }
    if (argc - optind > 1) {
        fputs("pgrouter: one configuration file at most. Try pgrouter --help.\n", stderr);
        return 1;
    }
    source.path = argv[optind];
    if (in_container && source.path == NULL && !container_find_file(&source.path))
        return 1;
    return run(&source, task, &wish);
}
