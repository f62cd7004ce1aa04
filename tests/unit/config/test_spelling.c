#include <criterion/criterion.h>

#include "config/spelling.h"

TestSuite(spelling, .timeout = 5);

static const char *nearest(const char *word)
{
    struct spelling spelling = {.word = word};

    spelling_try(&spelling, "max_client_conn");
    spelling_try(&spelling, "listen_backlog");
    spelling_try(&spelling, "rise");
    spelling_try(&spelling, "role");
    return spelling.nearest == NULL ? "" : spelling.nearest;
}

Test(spelling, finds_the_word_with_a_letter_missing_added_or_changed)
{
    cr_expect_str_eq(nearest("max_client_con"), "max_client_conn");
    cr_expect_str_eq(nearest("max_clients_conn"), "max_client_conn");
    cr_expect_str_eq(nearest("listen-backlog"), "listen_backlog");
    cr_expect_str_eq(nearest("listenbackolg"), "listen_backlog");
    cr_expect_str_eq(nearest("rolle"), "role");
}

Test(spelling, takes_the_nearest_of_several)
{
    cr_expect_str_eq(nearest("rise"), "rise");
    cr_expect_str_eq(nearest("rose"), "rise"); /* as near as role: the first */
    cr_expect_str_eq(nearest("rol"), "role");
}

Test(spelling, offers_nothing_when_nothing_is_close)
{
    cr_expect_str_eq(nearest(""), "");
    cr_expect_str_eq(nearest("pool_mode"), "");
    cr_expect_str_eq(nearest("r"), "");
    cr_expect_str_eq(nearest("max_client_conn_max_client_conn_max_client_conn"), "");
}

Test(spelling, ignores_known_words_that_are_too_long)
{
    struct spelling spelling = {.word = "max"};

    spelling_try(&spelling, "max_client_conn_max_client_conn_max_client_conn");
    cr_expect_null(spelling.nearest);
}
