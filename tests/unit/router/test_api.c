#include "router/console/api.h"

#include <criterion/criterion.h>

#include "core/memory.h"

TestSuite(api, .timeout = 10);

static void add_peer(struct text *rows, const char *host, int64_t id)
{
    struct row row;

    row_begin(&row, VIEW_PEERS, 0, rows);
    row_number(&row, id);
    row_text(&row, host);
    row_number(&row, 6432);
    row_number(&row, -1);
    cr_assert(row_end(&row));
}

static const char two[] = "{\"view\": \"peers\", \"rows\": [\n"
                          "{\"peer_id\": 1, \"host\": \"a\\\"b\", \"port\": 6432, "
                          "\"pool_size\": -1},\n"
                          "{\"peer_id\": 2, \"host\": null, \"port\": 6432, "
                          "\"pool_size\": -1}\n]}\n";

Test(api, rows_are_objects)
{
    struct text rows, out;

    text_init(&rows, 10000);
    text_init(&out, 10000);
    api_begin(COMMAND_SHOW_PEERS, &out);
    add_peer(&rows, "a\"b", 1);
    api_add_rows(COMMAND_SHOW_PEERS, &rows, &out);
    rows.length = 0;
    api_add_rows(COMMAND_SHOW_PEERS, &rows, &out);
    add_peer(&rows, NULL, 2);
    api_add_rows(COMMAND_SHOW_PEERS, &rows, &out);
    api_end(&out);
    cr_expect_str_eq(text_get(&out), two);
    text_clear(&rows);
    text_clear(&out);
}

Test(api, without_memory_is_not_whole)
{
    struct text rows, out;
    unsigned n_not_whole = 0;

    text_init(&rows, 10000);
    add_peer(&rows, "a\"b", 1);
    add_peer(&rows, NULL, 2);
    for (unsigned n = 1; n < 10; n++) {
        text_init(&out, 10000);
        memory_fail_at = n;
        api_begin(COMMAND_SHOW_PEERS, &out);
        api_add_rows(COMMAND_SHOW_PEERS, &rows, &out);
        api_end(&out);
        memory_fail_at = 0;
        n_not_whole += out.overflowed;
        cr_expect(out.overflowed || strcmp(text_get(&out), two) == 0);
        text_clear(&out);
    }
    cr_expect_gt(n_not_whole, 1);
    cr_expect_lt(n_not_whole, 9);
    text_clear(&rows);
}

Test(api, names_are_those_of_the_table)
{
    cr_expect_eq(api_command("pools", 5), COMMAND_SHOW_POOLS);
    cr_expect_eq(api_command("pools?", 5), COMMAND_SHOW_POOLS);
    cr_expect_eq(api_command("pool", 4), COMMAND_UNKNOWN);
    cr_expect_eq(api_command("shutdown", 8), COMMAND_UNKNOWN);
    cr_expect_eq(api_command("", 0), COMMAND_UNKNOWN);
}
