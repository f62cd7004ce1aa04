/* router/main.c - the command line: everything else is a setting. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "pool/security.h"
#include "router/control.h"

static const char help[] =
    "Usage: pgrouter [OPTION] [FILE.ini]\n"
    "\n"
    "Routes PostgreSQL connections to the primary and the replicas of a Patroni "
    "cluster.\n"
    "Without a file the environment is the configuration: POSTGRES_NODES and HAPROXY_*.\n"
    "\n"
    "  -t, --test       check the configuration, say what is wrong with it, and exit\n"
    "      --settings   print every setting with its default and what it does\n"
    "      --markdown   with --settings: as docs/settings.md has it\n"
    "  -V, --version    print the version\n"
    "  -h, --help       print this\n"
    "\n"
    "Signals: HUP reloads the file; TERM accepts no more clients and ends with the last\n"
    "session; INT also sends away those who wait; a second one of these, or QUIT, ends "
    "now.\n";

enum { OPTION_SETTINGS = 256, OPTION_MARKDOWN };

static const struct option options[] = {
    {"test", no_argument, NULL, 't'},
    {"settings", no_argument, NULL, OPTION_SETTINGS},
    {"markdown", no_argument, NULL, OPTION_MARKDOWN},
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

    security_release(security);
    tls_registry_free(registry);
    return is_fine;
}

/* Checks the configuration and, unless that is all that is wanted, runs. */
static int run(const struct config_source *source, bool only_test)
{
    struct config *config;
    struct text errors;
    int status = 0;

    text_init(&errors, 1 << 20);
    config = config_source_load(source, &errors);
    if (config == NULL)
        return print_errors(&errors);
    if (only_test && !check_security(config, &errors)) {
        config_release(config);
        return print_errors(&errors);
    }
    text_clear(&errors);
    if (only_test) {
        printf("%s: ok\n", source->path == NULL ? "environment" : source->path);
    } else if (!log_start()) {
        fputs("pgrouter: cannot start a thread\n", stderr);
        status = 1;
    } else {
        status = control_run(config, source);
        log_stop();
    }
    config_release(config);
    return status;
}

int main(int argc, char **argv)
{
    bool only_test = false, settings = false, markdown = false;
    int option;

    while ((option = getopt_long(argc, argv, "tVh", options, NULL)) != -1) {
        switch (option) {
        case 't':
            only_test = true;
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
    if (argc - optind > 1) {
        fputs("pgrouter: one configuration file at most. Try pgrouter --help.\n", stderr);
        return 1;
    }
    return run(&(struct config_source){.path = argv[optind]}, only_test);
}
