#include "health/store_keys.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

TestSuite(store_keys, .timeout = 10);

static bool put(struct store_keys *keys, const char *name, const char *value,
                int64_t changed_at)
{
    return store_keys_put(keys, &(struct store_key){.name = (char *)name,
                                                    .value = (char *)value,
                                                    .name_length = strlen(name),
                                                    .length = strlen(value),
                                                    .created_at = 1,
                                                    .changed_at = changed_at});
}

static const char *value_of(const struct store_keys *keys, const char *name)
{
    const struct store_key *key = store_keys_find(keys, name);

    return key == NULL ? NULL : key->value;
}

Test(store_keys, keeps_the_last_value_of_each)
{
    struct store_keys keys = {0};

    cr_assert(put(&keys, "leader", "pg1", 3));
    cr_assert(put(&keys, "config", "{}", 4));
    cr_assert(put(&keys, "leader", "pg2", 5));
    cr_expect_eq(keys.n, 2);
    cr_expect_str_eq(value_of(&keys, "leader"), "pg2");
    cr_expect_eq(store_keys_find(&keys, "leader")->changed_at, 5);
    cr_expect_null(value_of(&keys, "lead"));
    cr_expect_null(value_of(&keys, "leaders"));
    store_keys_remove(&keys, "leader", 6);
    store_keys_remove(&keys, "nobody", 6);
    cr_expect_eq(keys.n, 1);
    cr_expect_null(value_of(&keys, "leader"));
    cr_expect_str_eq(value_of(&keys, "config"), "{}");
    store_keys_clear(&keys);
    cr_expect_eq(keys.n, 0);
}

Test(store_keys, has_a_bound)
{
    struct store_keys keys = {0};
    char name[16];
    unsigned n = 0;

    while (n < 2 * STORE_KEYS_MAX) {
        snprintf(name, sizeof name, "%u", n);
        if (!put(&keys, name, "", 1))
            break;
        n++;
    }
    cr_expect_geq(n, STORE_KEYS_MAX);
    cr_expect_lt(n, 2 * STORE_KEYS_MAX);
    cr_expect(put(&keys, "0", "again", 2), "one that is there can be changed");
    store_keys_clear(&keys);
}

/* Ours are as of revision 10. */
Test(store_keys, tells_what_is_missing)
{
    struct store_keys ours = {0}, theirs = {0};

    cr_assert(put(&ours, "a", "1", 5) && put(&ours, "b", "1", 9));
    cr_assert(put(&theirs, "a", "1", 5) && put(&theirs, "b", "1", 9));
    cr_expect_not(store_keys_lack(&ours, 10, &theirs, 10));
    cr_expect_not(store_keys_lack(&ours, 10, &theirs, 99), "other keys than ours");

    cr_assert(put(&theirs, "b", "2", 12));
    cr_expect(store_keys_lack(&ours, 10, &theirs, 12), "a newer value");
    cr_assert(put(&ours, "b", "2", 12));
    cr_expect_not(store_keys_lack(&ours, 12, &theirs, 12));

    cr_assert(put(&theirs, "c", "1", 13));
    cr_expect(store_keys_lack(&ours, 12, &theirs, 13), "a new key");
    cr_expect_not(store_keys_lack(&ours, 14, &theirs, 13), "one that we saw go at 14");

    store_keys_remove(&theirs, "c", 1);
    store_keys_remove(&theirs, "a", 1);
    cr_expect(store_keys_lack(&ours, 12, &theirs, 13), "a key that is gone");
    cr_assert(put(&ours, "a", "3", 15));
    cr_expect_not(store_keys_lack(&ours, 15, &theirs, 13), "one that is new since");
    store_keys_clear(&ours);
    store_keys_clear(&theirs);
}

Test(store_keys, survives_each_allocation_failure)
{
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct store_keys keys = {0};
        size_t n = 0;

        memory_fail_at = nth;
        n += put(&keys, "a", "1", 1);
        n += put(&keys, "b", "1", 1);
        cr_expect_eq(keys.n, n);
        if (put(&keys, "a", "2", 2))
            cr_expect_str_eq(value_of(&keys, "a"), "2");
        store_keys_clear(&keys);
    }
    memory_fail_at = 0;
}
