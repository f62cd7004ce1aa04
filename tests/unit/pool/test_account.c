#include "pool/account.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/fault.h"

static struct ledger *ledger;
static struct accounts *accounts;

static void begin(void)
{
    ledger = ledger_new(2);
    cr_assert_not_null(ledger);
    accounts = accounts_new(ledger);
    cr_assert_not_null(accounts);
}

static void end(void)
{
    accounts_free(accounts);
    ledger_free(ledger);
}

TestSuite(account, .init = begin, .fini = end, .timeout = 10);

static const struct account_terms app = {.name = "app",
                                         .database = "app",
                                         .user = "odoo",
                                         .password = "first",
                                         .pool_size = 2};

static struct account *hold(const struct account_terms *terms)
{
    struct ledger_todo todo = {0};

    return account_hold(accounts, terms, &todo);
}

Test(account, is_one_for_each_name_database_user_and_role)
{
    struct account_terms other = app;
    struct account *first = hold(&app), *again = hold(&app), *others[4];

    cr_assert_eq(first, again);
    cr_expect_str_eq(first->name, "app");
    cr_expect_str_eq(first->database, "app");
    cr_expect_str_eq(first->user, "odoo");
    other.name = "ap";
    other.database = "papp"; /* the same letters */
    others[0] = hold(&other);
    other = app;
    other.database = "template1";
    others[1] = hold(&other);
    other = app;
    other.user = "postgres";
    others[2] = hold(&other);
    other = app;
    other.role = ROLE_REPLICA;
    others[3] = hold(&other);
    cr_expect_eq(others[3]->role, ROLE_REPLICA);
    for (unsigned i = 0; i < 4; i++) {
        cr_expect_neq(others[i], first);
        account_release(others[i]);
    }
    account_release(again);
    account_release(first);
}

Test(account, its_terms_are_the_last_ones)
{
    struct account_terms more = app;
    struct account *account = hold(&app);

    more.pool_size = 5;
    more.max_user_connections = 4;
    cr_assert_eq(hold(&more), account);
    cr_expect_eq(account->limits[LEDGER_POOL]->max, 5);
    cr_expect_eq(account->limits[LEDGER_USER]->max, 4);
    cr_expect_eq(account->limits[LEDGER_DATABASE]->max, 0);
    account_release(account);
    account_release(account);
}

Test(account, another_password_is_for_the_next_login)
{
    struct account_terms changed = app;
    struct account *account = hold(&app);
    const struct secret *before, *after;
    struct scram_keys keys = {.salt.n = 16};

    account_set_keys(account, &keys);
    account_set_why(account, "password authentication failed");
    before = account_get_secret(account, &keys);
    cr_expect_eq(before->kind, SECRET_PLAIN);
    cr_expect_eq(keys.salt.n, 16);

    cr_assert_eq(hold(&app), account);
    cr_expect_eq(account_get_secret(account, &keys), before);
    cr_expect_eq(keys.salt.n, 16);

    changed.password = "second";
    cr_assert_eq(hold(&changed), account);
    after = account_get_secret(account, &keys);
    cr_expect_eq(memcmp(after->plain, "second", 6), 0);
    cr_expect_eq(keys.salt.n, 0, "they were made of the first");
    cr_expect_str_eq(account->why, "");
    cr_expect_eq(memcmp(before->plain, "first", 5), 0, "a login may be under way");
    for (unsigned i = 0; i < 3; i++)
        account_release(account);
}

Test(account, clients_are_counted_by_database_and_by_user)
{
    struct client_count *database, *same, *user, *none = NULL;

    cr_expect_eq(accounts_count_in(accounts, COUNT_OF_DATABASE, "app", 2, &database),
                 COUNT_ENTERED);
    cr_expect_eq(accounts_count_in(accounts, COUNT_OF_DATABASE, "app", 2, &same),
                 COUNT_ENTERED);
    cr_expect_eq(same, database);
    cr_expect_eq(accounts_count_in(accounts, COUNT_OF_DATABASE, "app", 2, &none),
                 COUNT_FULL);
    cr_expect_eq(accounts_count_in(accounts, COUNT_OF_USER, "app", 2, &user),
                 COUNT_ENTERED);
    cr_expect_neq(user, database);
    accounts_count_out(accounts, same);
    cr_expect_eq(accounts_count_in(accounts, COUNT_OF_DATABASE, "app", 2, &same),
                 COUNT_ENTERED);
    accounts_count_out(accounts, same);
    accounts_count_out(accounts, database);
    accounts_count_out(accounts, user);
    accounts_count_out(accounts, none);
}

Test(account, nodes_have_a_limit_each)
{
    struct ledger_todo todo = {0};
    struct ledger_limit *first = accounts_node_limit(accounts, 1, 10, &todo);

    cr_assert_not_null(first);
    cr_expect_eq(accounts_node_limit(accounts, 1, 12, &todo), first);
    cr_expect_eq(first->max, 12);
    cr_expect_neq(accounts_node_limit(accounts, 2, 10, &todo), first);
}

static void use_all(void *arg)
{
    struct account_terms changed = app;
    struct client_count *count = NULL;
    struct ledger_todo todo = {0};
    struct account *account = hold(&app), *again;
    enum client_count_answer answer;
    struct ledger_limit *limit;

    (void)arg;
    changed.password = "second";
    again = hold(&changed);
    answer = accounts_count_in(accounts, COUNT_OF_USER, "odoo", 0, &count);
    cr_expect_eq(answer, count == NULL ? COUNT_NO_MEMORY : COUNT_ENTERED);
    limit = accounts_node_limit(accounts, 1, 10, &todo);
    cr_expect(limit == NULL || limit->max == 10);
    accounts_count_out(accounts, count);
    if (again != NULL)
        account_release(again);
    if (account != NULL)
        account_release(account);
}

Test(account, survives_any_allocation_that_fails)
{
    cr_expect_geq(fault_each_allocation(use_all, NULL), 10);
}
