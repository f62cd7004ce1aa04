#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/unit/config/loaded.h"

TestSuite(load, .timeout = 60);
TestSuite(load_changed, .timeout = 240); /* a slow machine, with a sanitizer */

static const char every_setting[] = "[pgrouter]\n"
                                    "workers = 3\n"
                                    "max_client_conn = 5\n"
                                    "client_login_timeout = 1\n"
                                    "shutdown_timeout = 2m\n"
                                    "listen_backlog = 7\n"
                                    "unix_socket_mode = 0700\n"
                                    "log_format = json\n"
                                    "log_connections = off\n"
                                    "log_disconnections = no\n"
                                    "verbose = 2\n"
                                    "tcp_keepalive = 0\n"
                                    "tcp_keepidle = 11\n"
                                    "tcp_keepintvl = 12\n"
                                    "tcp_keepcnt = 13\n"
                                    "tcp_user_timeout = 1400\n"
                                    "dns_min_ttl = 200ms\n"
                                    "dns_max_ttl = 0.5\n"
                                    "[cluster main]\n"
                                    "nodes = a=h1:1:2, h2.x:3:4\n"
                                    "drain = h2\n"
                                    "check = postgres\n"
                                    "check_interval = 300ms\n"
                                    "check_timeout = 400ms\n"
                                    "check_fast_interval = 50ms\n"
                                    "rise = 3\n"
                                    "fall = 4\n"
                                    "max_lag = 16MB\n"
                                    "check_user = monitor\n"
                                    "check_password = \"se ;cret\"\n"
                                    "check_dbname = db\n"
                                    "[listener rw]\n"
                                    "bind = *:5000, [::1]:5001, /tmp/x.sock\n"
                                    "mode = tcp\n"
                                    "cluster = main\n"
                                    "role = read-only\n"
                                    "balance = source\n"
                                    "maxconn = 8\n"
                                    "queue_timeout = 9s\n"
                                    "connect_timeout = 10s\n"
                                    "client_timeout = 1d\n"
                                    "server_timeout = 2d\n"
                                    "on_role_change = keep\n"
                                    "[listener custom]\n"
                                    "bind = *:5002\n"
                                    "check_uri = /replica?lag=1MB\n"
                                    "[stats]\n"
                                    "bind = 127.0.0.1:8404, [::1]:8404\n"
                                    "uri = /haproxy\n";

Test(load, sets_every_setting)
{
    struct config *config = loaded(every_setting);
    const struct main_config *main = &config->main;
    const struct cluster_config *cluster = &config->clusters[0];
    const struct listener_config *listener = &config->listeners[0];

    cr_expect_eq(main->workers, 3);
    cr_expect_eq(main->max_client_conn, 5);
    cr_expect_eq(main->client_login_timeout, 1000);
    cr_expect_eq(main->shutdown_timeout, 120000);
    cr_expect_eq(main->listen_backlog, 7);
    cr_expect_eq(main->unix_socket_mode, 0700);
    cr_expect_eq(main->log_format, LOG_FORMAT_JSON);
    cr_expect_not(main->log_connections);
    cr_expect_not(main->log_disconnections);
    cr_expect_eq(main->verbose, 2);
    cr_expect_not(main->tcp_keepalive);
    cr_expect_eq(main->tcp_keepidle, 11000);
    cr_expect_eq(main->tcp_keepintvl, 12000);
    cr_expect_eq(main->tcp_keepcnt, 13);
    cr_expect_eq(main->tcp_user_timeout, 1400);
    cr_expect_eq(main->dns_min_ttl, 200);
    cr_expect_eq(main->dns_max_ttl, 500);

    cr_assert_eq(config->n_clusters, 1);
    cr_expect_str_eq(cluster->name, "main");
    cr_assert_eq(cluster->nodes.n, 2);
    cr_expect_str_eq(cluster->nodes.items[1].name, "h2");
    cr_expect_eq(cluster->nodes.items[1].check_port, 4);
    cr_assert_eq(cluster->drain.n, 1);
    cr_expect_str_eq(cluster->drain.items[0], "h2");
    cr_expect_eq(cluster->check, CHECK_POSTGRES);
    cr_expect_eq(cluster->check_interval, 300);
    cr_expect_eq(cluster->check_timeout, 400);
    cr_expect_eq(cluster->check_fast_interval, 50);
    cr_expect_eq(cluster->rise, 3);
    cr_expect_eq(cluster->fall, 4);
    cr_expect_eq(cluster->max_lag, INT64_C(1) << 24);
    cr_expect_str_eq(cluster->check_user, "monitor");
    cr_expect_str_eq(cluster->check_password, "se ;cret");
    cr_expect_str_eq(cluster->check_dbname, "db");

    cr_assert_eq(config->n_listeners, 2);
    cr_expect_str_eq(listener->name, "rw");
    cr_expect_eq(listener->to, cluster);
    cr_assert_eq(listener->bind.n, 3);
    cr_expect_str_eq(listener->bind.items[1].host, "::1");
    cr_expect_str_eq(listener->bind.items[2].path, "/tmp/x.sock");
    cr_expect_eq(listener->mode, MODE_TCP);
    cr_expect_str_eq(listener->cluster, "main");
    cr_expect_eq(listener->role, ROLE_READ_ONLY);
    cr_expect_eq(listener->balance, BALANCE_SOURCE);
    cr_expect_eq(listener->maxconn, 8);
    cr_expect_eq(listener->queue_timeout, 9000);
    cr_expect_eq(listener->connect_timeout, 10000);
    cr_expect_eq(listener->client_timeout, 86400000);
    cr_expect_eq(listener->server_timeout, 172800000);
    cr_expect_eq(listener->on_role_change, ON_ROLE_CHANGE_KEEP);
    cr_expect_str_eq(config->listeners[1].check_uri, "/replica?lag=1MB");
    cr_expect_eq(config->listeners[1].to, cluster);

    cr_assert_eq(config->stats.bind.n, 2);
    cr_expect_str_eq(config->stats.uri, "/haproxy");
    config_release(config);
}

Test(load, takes_comments_behind_the_values_of_our_own_sections)
{
    struct config *config = loaded("[pgrouter] ; c\n"
                                   "workers = 2 ; c\n"
                                   "[cluster main] ; c\n"
                                   "nodes = a:1:2 ; c\n"
                                   "[listener rw] ; c\n"
                                   "bind = *:1 ; c\n"
                                   "role = any ; primary | any\n"
                                   "[stats] ; c\n"
                                   "bind = *:2 ; c\n");

    cr_expect_eq(config->main.workers, 2);
    cr_expect_eq(config->listeners[0].role, ROLE_ANY);
    cr_expect_eq(config->stats.bind.n, 1);
    config_release(config);
}

Test(load, takes_none_behind_those_of_pgbouncers_section_and_says_so)
{
    expect_errors("[pgbouncer] ; c\nverbose = 1 ; c\n" CLUSTER LISTENER,
                  "t.ini:2: verbose = '1 ; c' cannot be read; expected a whole number, 0 "
                  "to 9 (in [pgbouncer] a comment stands on a line of its own)\n");
}

Test(load, makes_one_section_of_pgrouter_and_pgbouncer)
{
    struct config *config = loaded("[pgbouncer]\nworkers = 2\n" CLUSTER LISTENER
                                   "[pgrouter]\nverbose = 1\n[pgbouncer]\n"
                                   "listen_backlog = 9\n");

    cr_expect_eq(config->main.workers, 2);
    cr_expect_eq(config->main.verbose, 1);
    cr_expect_eq(config->main.listen_backlog, 9);
    config_release(config);
}

Test(load, has_no_stats_page_without_its_section)
{
    struct config *config = loaded(CLUSTER LISTENER);

    cr_expect_eq(config->stats.bind.n, 0);
    cr_expect_str_eq(config->stats.uri, "/stats");
    config_release(config);
}

Test(load, knows_a_listeners_cluster_when_there_is_one_only)
{
    struct config *config = loaded(LISTENER CLUSTER);

    cr_expect_eq(config->listeners[0].to, &config->clusters[0]);
    config_release(config);
}

Test(load, reads_a_line_of_many_nodes)
{
    struct text ini;
    struct config *config;

    text_init(&ini, 1 << 20);
    text_add(&ini, LISTENER "[cluster main]\nnodes = ");
    for (int i = 0; i < 100; i++)
        text_addf(&ini, "%snode%d.some.long.domain.example.org:5432:8008",
                  i > 0 ? ", " : "", i);
    config = loaded(text_get(&ini));
    cr_assert_eq(config->clusters[0].nodes.n, 100);
    cr_expect_str_eq(config->clusters[0].nodes.items[99].name, "node99");
    cr_expect_str_eq(config->clusters[0].nodes.items[99].host,
                     "node99.some.long.domain.example.org");
    config_release(config);
    text_clear(&ini);
}

#define SECTIONS \
    "[pgrouter], [cluster NAME], [listener NAME], [stats], [databases], [users] or " \
    "[peers]"

Test(load, reports_each_mistake_with_its_line)
{
    static const struct {
        const char *ini;
        const char *errors;
    } examples[] = {
        {"workers = 1\n" CLUSTER LISTENER,
         "t.ini:1: 'workers' in front of the first section; expected " SECTIONS
         " above it\n"},
        {"[pgroute]\n" CLUSTER LISTENER,
         "t.ini:1: unknown section [pgroute]; did you mean [pgrouter]?\n"},
        {"[clusters two]\nnodes = x\n" CLUSTER LISTENER,
         "t.ini:1: unknown section [clusters two]; did you mean [cluster NAME]?\n"},
        {"[frontend x]\nbind = \"*:1\n" CLUSTER LISTENER,
         "t.ini:1: unknown section [frontend x]; expected " SECTIONS "\n"},
        {"[]\n" CLUSTER LISTENER, "t.ini:1: unknown section []; expected " SECTIONS "\n"},
        {"[cluster main\nnodes = x\n" LISTENER,
         "t.ini:1: a ']' is missing; expected [section]\n"},
        {CLUSTER "[listener rw\nbind = x\n",
         "t.ini:3: a ']' is missing; expected [section]\n"},
        {"[database]\na = b\n" CLUSTER LISTENER,
         "t.ini:1: unknown section [database]; did you mean [databases]?\n"},
        {"[databases x]\n[users y]\n" CLUSTER LISTENER,
         "t.ini:1: [databases x]: expected [databases], which takes no name\n"
         "t.ini:2: [users y]: expected [users], which takes no name\n"},
        {CLUSTER LISTENER "[cluster]\nnodes = a:1:1\n[listener]\nbind = *:1\n"
                          "cluster = main\n",
         "t.ini:5: [cluster] without a name; expected [cluster NAME]\n"
         "t.ini:7: [listener] without a name; expected [listener NAME]\n"},
        {CLUSTER LISTENER "[listener a b]\nbind = *:1\n",
         "t.ini:5: [listener a b]: expected a name of letters, digits and . _ -\n"},
        {CLUSTER LISTENER "[listener rw]\nbind = *:1\n",
         "t.ini:5: [listener rw] stands twice; expected another name than at t.ini:3\n"},
        {CLUSTER LISTENER "cluster = main\n[cluster main]\nnodes = x:1:1\n",
         "t.ini:6: [cluster main] stands twice; expected another name than at "
         "t.ini:1\n"},
        {CLUSTER LISTENER "[stats]\nbind = *:1\nauth = admin\n",
         "t.ini:7: auth: expected name:password\n"},
        {CLUSTER LISTENER "[stats]\nbind = *:1\nauth = :secret\n",
         "t.ini:7: auth: expected name:password\n"},
        {CLUSTER LISTENER "[stats x]\nbind = *:1\n[pgrouter y]\n",
         "t.ini:5: [stats x]: expected [stats], which takes no name\n"
         "t.ini:7: [pgrouter y]: expected [pgrouter], which takes no name\n"},
        {"[pgrouter]\nworker = 1\n" CLUSTER LISTENER,
         "t.ini:2: unknown setting 'worker' in [pgrouter]; did you mean 'workers'?\n"},
        {CLUSTER "pool_mode = session\nhow_so = x\n" LISTENER,
         "t.ini:3: 'pool_mode' does not belong in [cluster main]; expected it in "
         "[pgrouter] or [listener NAME] or [databases] or [users]\n"
         "t.ini:4: unknown setting 'how_so' in [cluster main]; pgrouter --settings "
         "lists them all\n"},
        {CLUSTER "bind = *:1\n" LISTENER "rise = 1\n",
         "t.ini:3: 'bind' does not belong in [cluster main]; expected it in "
         "[listener NAME] or [stats]\n"
         "t.ini:6: 'rise' does not belong in [listener rw]; expected it in "
         "[cluster NAME]\n"},
        {CLUSTER "rise = 1\nrise = 2\n" LISTENER,
         "t.ini:4: 'rise' is given twice; expected it once, as at t.ini:3\n"},
        {"[pgrouter]\nverbose = 1\n[pgbouncer]\nverbose = 1\n" CLUSTER LISTENER,
         "t.ini:4: 'verbose' is given twice; expected it once, as at t.ini:2\n"},
        {"[pgrouter]\nworkers = 0\nworkers = 1\nverbose = x\n" CLUSTER LISTENER,
         "t.ini:2: workers = '0' is out of range; expected auto or a whole number, 1 to "
         "64\n"
         "t.ini:3: 'workers' is given twice; expected it once, as at t.ini:2\n"
         "t.ini:4: verbose = 'x' cannot be read; expected a whole number, 0 to 9\n"},
        {CLUSTER "check_interval = 49ms\ncheck_timeout = 2 h\nmax_lag = 16mb\n" LISTENER,
         "t.ini:3: check_interval = '49ms' is out of range; expected a duration (250ms, "
         "1s, 30m, 2h, 1d; a number alone counts seconds), 50ms to 1h\n"
         "t.ini:4: check_timeout = '2 h' cannot be read; expected a duration (250ms, "
         "1s, 30m, 2h, 1d; a number alone counts seconds), 50ms to 1h\n"
         "t.ini:5: max_lag = '16mb' cannot be read; expected a size (8kB, 16MB, 1GB; a "
         "number alone counts bytes), 0 or more\n"},
        {"[pgrouter]\nverbose =\n" CLUSTER LISTENER,
         "t.ini:2: verbose = '' cannot be read; expected a whole number, 0 to 9\n"},
        {CLUSTER LISTENER "balance = round-robin\n",
         "t.ini:5: balance = 'round-robin' cannot be read; expected roundrobin, "
         "leastconn, first, random or source\n"},
        {CLUSTER LISTENER "oops\n",
         "t.ini:5: expected name = value, [section] or a comment\n"},
        {"[cluster main]\nnodes = a:1:2, b\n" LISTENER,
         "t.ini:2: nodes: entry 2 'b': expected name=host:port or "
         "name=host:port:patroniport, IPv6 as [v6]:port\n"},
        {CLUSTER "[listener rw]\nbind = *:1, *:99999\n",
         "t.ini:4: bind: entry 2 '*:99999': expected a port from 1 to 65535 behind the "
         "last colon\n"},
        {CLUSTER "[listener rw]\nbind =\n",
         "t.ini:4: bind = '' cannot be read; expected host:port, [v6]:port, *:port or "
         "/path, ...\n"},
        {CLUSTER LISTENER "%include x.ini\n",
         "t.ini:5: cannot include 'x.ini': only a file can include another\n"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++)
        expect_errors(examples[i].ini, examples[i].errors);
}

Test(load, reports_all_mistakes_of_a_file_at_once)
{
    expect_errors("[pgrouter]\n"
                  "workers = many\n"
                  "nonsense\n"
                  "[cluster main\n"
                  "nodes = ignored\n"
                  "[cluster main]\n"
                  "drain = x\n"
                  "[listener rw]\n"
                  "bind = *:5000\n"
                  "maxcon = 7\n",
                  "t.ini:2: workers = 'many' cannot be read; expected auto or a whole "
                  "number, 1 to 64\n"
                  "t.ini:3: expected name = value, [section] or a comment\n"
                  "t.ini:4: a ']' is missing; expected [section]\n"
                  "t.ini:10: unknown setting 'maxcon' in [listener rw]; did you mean "
                  "'maxconn'?\n"
                  "t.ini:6: [cluster main]: 'nodes' is missing; expected nodes = "
                  "name=host:port:patroniport, ... (name and patroniport may be left "
                  "out)\n");
}

Test(load, shows_no_more_than_the_start_of_a_wrong_value)
{
    struct text ini, errors;

    text_init(&ini, 10000);
    text_init(&errors, 10000);
    text_add(&ini, "[pgrouter]\nverbose = ");
    for (int i = 0; i < 5000; i++)
        text_add(&ini, "x");
    text_add(&ini, "\n" CLUSTER LISTENER);
    cr_expect_null(config_load_text("t.ini", text_get(&ini), &errors));
    cr_expect_lt(errors.length, 200);
    cr_expect_not_null(strstr(text_get(&errors), "xxx...' cannot be read"));
    text_clear(&ini);
    text_clear(&errors);
}

Test(load, never_shows_a_secret)
{
    static const char *const lines[] = {
        "check_password = \"Geheim\n",
        "check_password = \"Geh\"eim\n",
        "check_passwort = Geheim\n",
        "check_password Geheim\n",
        "check_password = Geh\001eim\n",
        "[check_password = Geheim\n",
        "check_password = Geheim\ncheck_password = Geheim\n",
        "check_password = Geheim\nrise = x\n",
        "= Geheim\n",
    };

    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct text ini, errors;

        text_init(&ini, 10000);
        text_init(&errors, 10000);
        text_addf(&ini, CLUSTER "%s" LISTENER, lines[i]);
        cr_expect_null(config_load_text("t.ini", text_get(&ini), &errors));
        cr_expect_gt(errors.length, 0);
        cr_expect_null(strstr(text_get(&errors), "Geh"), "%s", text_get(&errors));
        text_clear(&ini);
        text_clear(&errors);
    }
}

Test(load, stops_collecting_errors_where_the_callers_text_is_full)
{
    struct text errors;

    text_init(&errors, 100);
    cr_expect_null(config_load_text("t.ini", "a\nb\nc\n", &errors));
    cr_expect(errors.overflowed);
    cr_expect_leq(errors.length, 100);
    cr_expect_eq(strncmp(text_get(&errors), "t.ini:1: expected name", 22), 0);
    text_clear(&errors);
}

Test(load, takes_a_thousand_sections_and_no_more)
{
    struct text ini;

    text_init(&ini, 1 << 20);
    text_add(&ini, CLUSTER LISTENER);
    for (int i = 0; i < 996; i++)
        text_addf(&ini, "[cluster c%d]\nnodes = a:1:1\n", i);
    text_add(&ini, "[listener ro]\nbind = *:1\ncluster = main\n");
    expect_errors(
        text_get(&ini),
        "t.ini:1997: expected at most 1000 sections\n"
        "t.ini:3: [listener rw]: 'cluster' is left out though there are "
        "several; expected cluster = main or c0 or c1 or c2 or c3 or c4 or c5 or "
        "c6 or ...\n");
    text_clear(&ini);
}

/* ---- files ---- */

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");

    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

Test(load, reads_a_file_with_what_it_includes)
{
    char folder[] = "/tmp/test_load.XXXXXX";
    struct text errors;
    struct config *config;

    text_init(&errors, 10000);
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    write_file("t.ini", "%include nodes.ini\n" LISTENER "rise = 1\n");
    write_file("nodes.ini", CLUSTER "fall = 0\n");
    config = config_load_file("t.ini", &errors);
    cr_expect_null(config);
    cr_expect_str_eq(
        text_get(&errors),
        "nodes.ini:3: fall = '0' is out of range; expected a whole number, 1 to 100\n"
        "t.ini:4: 'rise' does not belong in [listener rw]; expected it in "
        "[cluster NAME]\n");
    text_clear(&errors);

    write_file("t.ini", "%include nodes.ini\n" LISTENER);
    write_file("nodes.ini", CLUSTER "fall = 1\n");
    config = config_load_file("t.ini", &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_expect_eq(config->clusters[0].fall, 1);
    config_release(config);
    unlink("t.ini");
    unlink("nodes.ini");
    rmdir(folder);
}

Test(load, says_why_a_file_cannot_be_read_and_no_more)
{
    struct text errors;

    text_init(&errors, 10000);
    cr_expect_null(config_load_file("/nonexistent/t.ini", &errors));
    cr_expect_str_eq(text_get(&errors),
                     "/nonexistent/t.ini: cannot be read: No such file or directory\n");
    text_clear(&errors);
    cr_expect_null(config_load_file("/", &errors));
    cr_expect_str_eq(text_get(&errors), "/: cannot be read: Is a directory\n");
    text_clear(&errors);
}

/* ---- hostile input ---- */

static struct config *load_it(struct text *errors)
{
    return config_load_text("t.ini", every_setting, errors);
}

Test(load, survives_each_allocation_failure)
{
    survive_each_failure(load_it, "t.ini: out of memory\n");
}

static struct config *load_mistakes(struct text *errors)
{
    static const char ini[] = "[pgrouter]\nworker = 1\nworkers = x\n[clust]\nfoo\n"
                              "[cluster a]\nnodes = x\ndrain = ,\n[cluster b]\n"
                              "nodes = a:1:1\ndrain = z\nbind = 1\n"
                              "[listener c]\n[listener d]\nbind = *:1, *:1\n"
                              "cluster = e\n";

    return config_load_text("t.ini", ini, errors);
}

Test(load, survives_each_allocation_failure_while_it_reports)
{
    survive_each_failure(load_mistakes, NULL);
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 8;
}

/* Bytes changed, lines doubled, cut and swapped. */
static void mutate(char *ini, size_t size, unsigned *state)
{
    static const char bytes[] = "=;:[],.%\"'\n \t0159axz-/*\x01\xff";

    for (unsigned n = next_random(state) % 6; n > 0; n--) {
        size_t length = strlen(ini);
        size_t at = next_random(state) % length;
        size_t from = next_random(state) % length;
        size_t span = next_random(state) % 40;

        switch (next_random(state) % 4) {
        case 0:
            ini[at] = bytes[next_random(state) % (sizeof bytes - 1)];
            break;
        case 1: /* take a piece out */
            if (span < length - at && length > 100)
                memmove(ini + at, ini + at + span, length - at - span + 1);
            break;
        case 2: /* a copy of a piece somewhere else */
            if (from + span < length && length + span < size) {
                char piece[40];

                memcpy(piece, ini + from, span);
                memmove(ini + at + span, ini + at, length - at + 1);
                memcpy(ini + at, piece, span);
            }
            break;
        default: /* overwrite with a piece */
            if (from + span < length && at + span < length)
                memmove(ini + at, ini + from, span);
            break;
        }
    }
}

static unsigned count_lines(const char *text)
{
    unsigned n = 1;

    for (; *text != '\0'; text++)
        if (*text == '\n')
            n++;
    return n;
}

/* Each line names the source, and a line that there is. */
static void expect_error_lines(char *errors, unsigned n_lines)
{
    for (char *line = strtok(errors, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        unsigned long number;

        cr_expect_eq(strncmp(line, "t.ini:", 6), 0, "%s", line);
        number = strtoul(line + 6, NULL, 10);
        cr_expect_leq(number, n_lines, "%s", line);
        cr_expect(number > 0 || strstr(line, "there is nothing to do") != NULL, "%s",
                  line);
    }
}

static void load_changed(const char *original, int n_rounds)
{
    unsigned state = 4711;
    int n_loaded = 0;

    for (int round = 0; round < n_rounds; round++) {
        char ini[10000];
        struct config *config;
        struct text errors;

        snprintf(ini, sizeof ini, "%s", original);
        mutate(ini, sizeof ini, &state);
        text_init(&errors, 1 << 20);
        config = config_load_text("t.ini", ini, &errors);
        cr_expect_eq(config == NULL, errors.length > 0);
        if (config == NULL)
            expect_error_lines(errors.bytes, count_lines(ini));
        else
            n_loaded++;
        config_release(config);
        text_clear(&errors);
    }
    cr_expect_gt(n_loaded, n_rounds / 10);
    cr_expect_lt(n_loaded, n_rounds * 9 / 10);
}

Test(load_changed, is_survived)
{
    load_changed(every_setting, 20000);
}

Test(load_changed, of_pgbouncer_is_survived)
{
    load_changed("[databases]\n\"a \"\"b\" = host=x,10.0.0.1 port=1 password='it''s' "
                 "pool_size=2\n* = host=pg1\nc = cluster=main role=any\n"
                 "[pgbouncer]\nlisten_addr = 127.0.0.1, ::1\nauth_type = trust\n"
                 "pool_mode = session\nserver_lifetime = 0.5\n[users]\n"
                 "bob = pool_size=1 query_timeout=2\n[peers]\n1 = host=x\n" CLUSTER,
                 10000);
}
