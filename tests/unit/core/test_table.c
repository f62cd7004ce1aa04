#include "core/table.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fault.h"

#define N 20000u

struct thing {
    struct table_entry in_table;
    uint32_t key;
    bool is_in;
};

static struct table table;
static struct thing things[N];

static void make(void)
{
    cr_assert(table_init(&table));
    for (uint32_t i = 0; i < N; i++)
        things[i] = (struct thing){.key = i * 7};
}

static void clear(void)
{
    table_clear(&table);
}

TestSuite(table, .init = make, .fini = clear, .timeout = 30);

static uint32_t hash_of(uint32_t key)
{
    return table_hash(&table, &key, sizeof key);
}

static void put(struct thing *thing)
{
    table_add(&table, &thing->in_table, hash_of(thing->key));
    thing->is_in = true;
}

static void take(struct thing *thing)
{
    table_remove(&table, &thing->in_table);
    thing->is_in = false;
}

static unsigned count(uint32_t key)
{
    unsigned n = 0;

    TABLE_EACH_LIKE(entry, &table, hash_of(key))
    {
        n += CONTAINER_OF(entry, struct thing, in_table)->key == key;
    }
    return n;
}

static void expect_what_is_in(void)
{
    for (uint32_t i = 0; i < N; i++)
        cr_assert_eq(count(things[i].key), things[i].is_in, "%u", i);
}

static void take_all(void)
{
    for (uint32_t i = 0; i < N; i++)
        if (things[i].is_in)
            take(&things[i]);
}

Test(table, finds_what_is_in_it_while_it_grows)
{
    for (uint32_t i = 0; i < N; i++) {
        put(&things[i]);
        cr_assert_eq(count(things[i / 2].key), 1);
        cr_assert_eq(count(things[i].key + 1), 0);
    }
    expect_what_is_in();
    take_all();
    expect_what_is_in();
}

Test(table, finds_what_is_in_it_while_things_come_and_go)
{
    unsigned chance = 1;

    for (unsigned i = 0; i < 20 * N; i++) {
        struct thing *thing;

        chance = chance * 1103515245u + 12345u;
        thing = &things[(chance >> 8) % N];
        if (thing->is_in)
            take(thing);
        else
            put(thing);
    }
    expect_what_is_in();
    take_all();
}

Test(table, spreads_its_entries)
{
    uint32_t longest = 0;

    for (uint32_t i = 0; i < N; i++)
        put(&things[i]);
    for (uint32_t line = 0; line < table.n_lines; line++) {
        uint32_t n = 0;

        for (struct table_entry *entry = table.lines[line]; entry != NULL;
             entry = entry->next)
            n++;
        if (n > longest)
            longest = n;
    }
    cr_expect_geq(table.n_lines, N / 2);
    cr_expect_lt(longest, 25, "by chance it is 12 or so");
    take_all();
}

Test(table, tells_of_the_one_added_last_first)
{
    things[1].key = things[0].key;
    put(&things[0]);
    put(&things[1]);
    cr_expect_eq(table_first(&table, hash_of(0)), &things[1].in_table);
    cr_expect_eq(table_next(&things[1].in_table), &things[0].in_table);
    cr_expect_null(table_next(&things[0].in_table));
    take_all();
}

Test(table, hashes_bytes_of_any_length_and_place)
{
    uint8_t bytes[64] = {0}, elsewhere[65];

    for (size_t n = 0; n < sizeof bytes; n++) {
        uint32_t hash = table_hash(&table, bytes, n);

        memcpy(elsewhere + 1, bytes, n);
        cr_expect_eq(table_hash(&table, elsewhere + 1, n), hash);
        if (n > 0) {
            elsewhere[n] ^= 1;
            cr_expect_neq(table_hash(&table, elsewhere + 1, n), hash);
            cr_expect_neq(table_hash(&table, bytes, n - 1), hash, "zeros count");
        }
    }
}

Test(table, hashes_by_chance)
{
    struct table other;

    cr_assert(table_init(&other));
    cr_expect_neq(other.seed, table.seed);
    cr_expect(table_hash(&other, "a", 1) != table_hash(&table, "a", 1) ||
              table_hash(&other, "b", 1) != table_hash(&table, "b", 1));
    table_clear(&other);
}

Test(table, goes_on_without_memory_to_grow)
{
    for (uint32_t i = 0; i < 1000; i++) {
        memory_fail_at = 1;
        put(&things[i]);
    }
    memory_fail_at = 0;
    cr_expect_eq(table.n_lines, 16, "there was room for so many");
    expect_what_is_in();
    for (uint32_t i = 1000; i < N; i++)
        put(&things[i]);
    cr_expect_geq(table.n_lines, N / 2, "it makes up for that");
    expect_what_is_in();
    take_all();
}

static void use_one(void *unused)
{
    struct table one;

    (void)unused;
    if (table_init(&one))
        cr_expect_null(table_first(&one, 1));
    table_clear(&one);
}

Test(table, survives_each_allocation_failure)
{
    cr_expect_eq(fault_each_allocation(use_one, NULL), 1);
}

Test(table, is_not_cleared_while_something_is_in_it, .signal = SIGABRT)
{
    put(&things[0]);
    table_clear(&table);
}
