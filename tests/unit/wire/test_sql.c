#include "wire/sql.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"

TestSuite(sql, .timeout = 10);

#define AGAIN (SQL_SINGLE | SQL_PLAIN)

static const struct {
    const char *text;
    unsigned flags;
} texts[] = {
    {"select 1", AGAIN},
    {"  \n\tSELECT 1", AGAIN},
    {"Insert into t values (1)", AGAIN},
    {"update t set a = 1", AGAIN},
    {"delete from t", AGAIN},
    {"MERGE INTO t USING s ON true WHEN MATCHED THEN DO NOTHING", AGAIN},
    {"with a as (select 1) select * from a", AGAIN},
    {"values (1), (2)", AGAIN},
    {"table t", AGAIN},
    {"select 1;", AGAIN},
    {"select 1 ; \n ;; -- over", AGAIN},
    {"/* who */ select 1", AGAIN},
    {"-- who\nselect 1 /* ; */", AGAIN},
    {"/* a /* nested; */ one */ select 1 -- ; select 2", AGAIN},
    {"select ';'", AGAIN},
    {"select 'it''s; so'", AGAIN},
    {"select \"a;b\"", AGAIN},
    {"select \"a\"\";b\"", AGAIN},
    {"select e'a\\';b'", AGAIN},
    {"select E'a\\\\'", AGAIN},
    {"select E'a\\\\' ; select 2", 0},
    {"select $$;$$", AGAIN},
    {"select $a$ ; $$ ; $b$ $a$", AGAIN},
    {"select $1, $2", AGAIN},
    {"select $1;", AGAIN},
    {"select a$b from t", AGAIN},
    {"select u&'d\\0061t'", AGAIN},
    {"select 1$$;$$", AGAIN},
    {"select b'1', x'ff', n'a;'", AGAIN},
    {"select array[1, 2];", AGAIN},
    {"select (1)", AGAIN},
    {"select'a'", AGAIN},
    {"select\xc3\xa4", SQL_SINGLE}, /* a word of its own */
    {"selection", SQL_SINGLE},
    {"select 1; select 2", 0},
    {"select 1;drop table t", 0},
    {"select ');' ); (;", 0},
    {"select ';", 0},
    {"select \";", 0},
    {"select $$;", 0},
    {"select $a$ ; $b$", 0},
    {"select /* ;", 0},
    {"select (;)", 0},
    {"select 1); (", 0},
    {"select '\\'; select '", 0},     /* depends on standard_conforming_strings */
    {"select E'\xe0\\';select 1", 0}, /* depends on the encoding */
    {"create rule r as on insert to t do also (delete from a; delete from b)", 0},
    {"do $$ begin commit; end $$", SQL_SINGLE},
    {"call p()", SQL_SINGLE},
    {"vacuum", SQL_SINGLE},
    {"explain analyze delete from t", SQL_SINGLE},
    {"copy t from stdin", SQL_SINGLE},
    {"begin", SQL_SINGLE},
    {"begin; insert into t values (1); commit", 0},
    {"", SQL_SINGLE},
    {";", SQL_SINGLE},
    {"-- nothing", SQL_SINGLE},
    {"(select 1)", SQL_SINGLE},
    {"commit", SQL_SINGLE | SQL_COMMIT | SQL_ENDS},
    {"COMMIT WORK;", SQL_SINGLE | SQL_COMMIT | SQL_ENDS},
    {"end transaction", SQL_SINGLE | SQL_COMMIT | SQL_ENDS},
    {"/* x */ commit", SQL_SINGLE | SQL_COMMIT | SQL_ENDS},
    {"commit and chain", SQL_SINGLE},
    {"COMMIT AND CHAIN", SQL_SINGLE},
    {"commit; select 1", 0},
    {"rollback", SQL_SINGLE | SQL_ROLLBACK | SQL_ENDS},
    {"Abort", SQL_SINGLE | SQL_ROLLBACK | SQL_ENDS},
    {"rollback to savepoint a", SQL_SINGLE | SQL_ROLLBACK},
    {"rollback; begin", SQL_ROLLBACK},
};

/* The flags that are promises; that of ROLLBACK is about the first word alone. */
static unsigned promises(unsigned flags)
{
    return flags & SQL_SINGLE ? flags : flags & SQL_ROLLBACK;
}

/* There is nothing behind its first semicolon: whatever is wrong with it, it is not two.
 */
static bool ends_with_semicolon(const char *text)
{
    const char *semicolon = strchr(text, ';');

    return semicolon != NULL && semicolon[1 + strspn(semicolon + 1, " ")] == '\0';
}

Test(sql, each_text_is_what_it_is)
{
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *text = texts[i].text;
        unsigned all = sql_read(text, strlen(text)), seen = sql_look(text, strlen(text));

        cr_expect_eq(promises(all), texts[i].flags, "%s: %#x", text, all);
        if (!ends_with_semicolon(text))
            cr_expect_eq(promises(seen), texts[i].flags, "at a glance: %s: %#x", text,
                         seen);
    }
}

/* A glance sees no less than all of it is read for; and nothing is read behind the end.
 */
Test(sql, what_is_cut_anywhere_is_read_no_further)
{
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        for (size_t n = 0; n <= strlen(texts[i].text); n++) {
            char *cut = malloc(n + 1);
            unsigned seen, known;

            cr_assert_not_null(cut);
            memcpy(cut, texts[i].text, n);
            seen = promises(sql_look(cut, n));
            known = promises(sql_read(cut, n));
            cr_expect_eq(known & ~seen, 0, "%.*s", (int)n, cut);
            if (n > 0 && memchr(cut, ';', n) != NULL && cut[n - 1] != ';')
                cr_expect(seen == known || cut[n - 1] == ' ', "%.*s", (int)n, cut);
            free(cut);
        }
}

Test(sql, the_first_of_several_is_what_it_is)
{
    static const char plain[] = "select 1; commit", odd[] = "commit; select 1";

    cr_expect_eq(sql_read(plain, sizeof plain - 1), SQL_PLAIN);
    cr_expect_eq(sql_look(plain, sizeof plain - 1), SQL_PLAIN);
    cr_expect_eq(sql_read(odd, sizeof odd - 1), 0);
    cr_expect_eq(sql_look(odd, sizeof odd - 1), 0);
}

Test(sql, a_zero_byte_is_in_doubt)
{
    cr_expect_eq(sql_read("select 1\0; drop table t", 24) & SQL_SINGLE, 0);
    cr_expect_eq(sql_look("select 1\0; drop table t", 24) & SQL_SINGLE, 0);
}
