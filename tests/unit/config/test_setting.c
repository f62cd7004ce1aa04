#include <criterion/criterion.h>
#include <stdio.h>

#include "config/setting.h"
#include "core/memory.h"

TestSuite(setting, .timeout = 5);

Test(setting, knows_each_setting_by_its_section_and_name)
{
    cr_expect_eq(setting_find(SECTION_MAIN, "workers"), &settings[SETTING_MAIN_workers]);
    cr_expect_eq(setting_find(SECTION_LISTENER, "bind"),
                 &settings[SETTING_LISTENER_bind]);
    cr_expect_eq(setting_find(SECTION_STATS, "bind"), &settings[SETTING_STATS_bind]);
    cr_expect_null(setting_find(SECTION_MAIN, "bind"));
    cr_expect_null(setting_find(SECTION_MAIN, "Workers"));
    cr_expect_null(setting_find(SECTION_MAIN, ""));
}

Test(setting, has_a_table_whose_rows_are_whole)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *row = &settings[i];

        cr_expect_eq(setting_find(row->section, row->name), row, "%s stands twice",
                     row->name);
        cr_expect_leq(row->rule.min, row->rule.max, "%s", row->name);
        cr_expect_gt(strlen(row->help), 5, "%s", row->name);
        cr_expect_gt(strlen(row->proof), 5, "%s", row->name);
        cr_expect(i == 0 || row->section >= row[-1].section, "%s", row->name);
        cr_expect(row->section < SECTION_DATABASE || !row->restarts,
                  "config_needs_restart() does not look at %s", row->name);
    }
}

Test(setting, has_the_rows_of_each_section_together)
{
    size_t first = 0;

    for (enum section_kind kind = 0; kind < SECTION_KIND_COUNT; kind++) {
        struct setting_range range = setting_range(kind);

        cr_expect_eq(range.first, first);
        cr_expect_gt(range.n, 0);
        for (size_t i = range.first; i < range.first + range.n; i++)
            cr_expect_eq(settings[i].section, kind);
        first += range.n;
    }
    cr_expect_eq(first, SETTING_COUNT);
}

Test(setting, fills_in_the_defaults)
{
    struct main_config main = {0};
    struct cluster_config cluster = {0};
    struct listener_config listener = {0};

    cr_assert(setting_init_fields(SECTION_MAIN, &main));
    cr_expect_geq(main.workers, 1);
    cr_expect_eq(main.max_client_conn, 1000);
    cr_expect_eq(main.client_login_timeout, 60000);
    cr_expect_eq(main.unix_socket_mode, 0777);
    cr_expect_eq(main.log_format, LOG_FORMAT_TEXT);
    cr_expect(main.tcp_keepalive);
    cr_expect_eq(main.tcp_user_timeout, 20000);
    setting_clear_fields(SECTION_MAIN, &main);
    cr_expect_eq(main.max_client_conn, 0);

    cr_assert(setting_init_fields(SECTION_CLUSTER, &cluster));
    cr_expect_eq(cluster.nodes.n, 0);
    cr_expect_eq(cluster.drain.n, 0);
    cr_expect_eq(cluster.check_fast_interval, 100);
    cr_expect_eq(cluster.max_lag, 0);
    cr_expect_str_eq(cluster.check_user, "");
    cr_expect_str_eq(cluster.check_dbname, "postgres");
    setting_clear_fields(SECTION_CLUSTER, &cluster);
    cr_expect_null(cluster.check_dbname);

    cr_assert(setting_init_fields(SECTION_LISTENER, &listener));
    cr_expect_eq(listener.role, ROLE_DEFAULT);
    cr_expect_eq(listener.balance, BALANCE_LEASTCONN);
    cr_expect_eq(listener.queue_timeout, 10000);
    cr_expect_str_eq(listener.cluster, "");
    cr_expect_eq(listener.pool_mode, POOL_MODE_DEFAULT);
    cr_expect_eq(listener.auth_type, AUTH_TYPE_DEFAULT);
    setting_clear_fields(SECTION_LISTENER, &listener);
}

Test(setting, survives_each_allocation_failure)
{
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth++) {
        struct cluster_config cluster = {0};
        bool is_ready;

        memory_fail_at = nth;
        is_ready = setting_init_fields(SECTION_CLUSTER, &cluster);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_expect_eq(is_ready, !has_failed);
        setting_clear_fields(SECTION_CLUSTER, &cluster);
    }
}

Test(setting, tells_why_one_has_no_effect)
{
    const struct setting without = {.proof = SETTING_NO_EFFECT "there are no pools"};
    const struct setting with = {.proof = "system/test_x.py::test_y"};

    cr_expect_str_eq(setting_no_effect(&without), "there are no pools");
    cr_expect_null(setting_no_effect(&with));
}

/* Rows of each kind: with and without a default, bounds, NO_EFFECT, signs of Markdown. */
static const struct setting rows[] = {
    {.section = SECTION_MAIN,
     .name = "threads",
     .initial = "auto",
     .rule = {VALUE_WORKERS, 1, 64},
     .restarts = true,
     .help = "how many; a|b",
     .proof = "p"},
    {.section = SECTION_MAIN,
     .name = "pkt_buf",
     .initial = "",
     .rule = {VALUE_STRING, 0, 0},
     .help = "size",
     .proof = SETTING_NO_EFFECT "buffers grow"},
    {.section = SECTION_STATS,
     .name = "bind",
     .rule = {VALUE_ENDPOINTS, 0, 0},
     .help = "where",
     .proof = "p"},
};

Test(setting, is_described_in_plain_text)
{
    struct text out;

    text_init(&out, 10000);
    setting_describe(rows, COUNT_OF(rows), &out, false);
    cr_expect_str_eq(text_get(&out),
                     "[pgrouter]\n"
                     "The program as a whole. [pgbouncer] is the same section.\n"
                     "\n"
                     "threads = auto\n"
                     "    how many; a|b\n"
                     "    auto or a whole number, 1 to 64; applied by a restart\n"
                     "\n"
                     "pkt_buf =\n"
                     "    size\n"
                     "    text; applied by a reload\n"
                     "    accepted without effect: buffers grow\n"
                     "\n"
                     "\n"
                     "[stats]\n"
                     "The stats page. Without this section there is none.\n"
                     "\n"
                     "bind (required)\n"
                     "    where\n"
                     "    host:port, [v6]:port, *:port or /path, ...; applied by a "
                     "reload\n");
    text_clear(&out);
}

Test(setting, is_described_in_markdown)
{
    static const char head[] =
        "| setting | default | values | applied by | what it does |\n"
        "|---|---|---|---|---|\n";
    struct text out;
    char wanted[2000];
    const char *tables;

    text_init(&out, 10000);
    setting_describe(rows, COUNT_OF(rows), &out, true);
    cr_expect_eq(strncmp(text_get(&out), "# Settings\n", 11), 0);
    tables = strstr(text_get(&out), "\n## ");
    cr_assert_not_null(tables);
    snprintf(wanted, sizeof wanted,
             "\n## [pgrouter]\n\n"
             "The program as a whole. [pgbouncer] is the same section.\n\n"
             "%s"
             "| `threads` | `auto` | auto or a whole number, 1 to 64 | restart | "
             "how many; a\\|b |\n"
             "| `pkt_buf` |  | text | reload | "
             "size; accepted without effect: buffers grow |\n"
             "\n## [stats]\n\n"
             "The stats page. Without this section there is none.\n\n"
             "%s"
             "| `bind` | required | host:port, \\[v6]:port, \\*:port or /path, ... | "
             "reload | where |\n",
             head, head);
    cr_expect_str_eq(tables, wanted);
    text_clear(&out);
}
