#include "pool/halts.h"

#include <criterion/criterion.h>

#include "core/memory.h"

static struct halts halts;

static void make(void)
{
    halts_init(&halts);
}

static void clear(void)
{
    halts_clear(&halts);
}

TestSuite(halts, .init = make, .fini = clear, .timeout = 10);

static void expect(const char *database, bool is_paused, bool is_disabled)
{
    cr_expect_eq(halts_has(&halts, database, HALT_PAUSED), is_paused, "%s", database);
    cr_expect_eq(halts_has(&halts, database, HALT_DISABLED), is_disabled, "%s", database);
}

Test(halts, each_is_of_its_database)
{
    cr_assert(halts_set(&halts, "a", HALT_PAUSED, true));
    cr_assert(halts_set(&halts, "b", HALT_DISABLED, true));
    cr_assert(halts_set(&halts, "a", HALT_PAUSED, true));
    expect("a", true, false);
    expect("b", false, true);
    expect("c", false, false);
    cr_assert(halts_set(&halts, "b", HALT_PAUSED, true));
    cr_assert(halts_set(&halts, "b", HALT_DISABLED, false));
    expect("b", true, false);
    cr_assert(halts_set(&halts, "c", HALT_DISABLED, false));
    cr_expect_eq(halts.named.n, 2);
}

Test(halts, all_are_paused_and_resumed)
{
    cr_assert(halts_set(&halts, "a", HALT_PAUSED, true));
    cr_assert(halts_set(&halts, "b", HALT_PAUSED, true));
    cr_assert(halts_set(&halts, "b", HALT_DISABLED, true));
    cr_assert(halts_set(&halts, "", HALT_PAUSED, true));
    expect("c", true, false);
    cr_assert(halts_set(&halts, "a", HALT_PAUSED, false));
    expect("a", true, false);
    cr_assert(halts_set(&halts, "", HALT_PAUSED, false));
    expect("a", false, false);
    expect("b", false, true);
    expect("c", false, false);
    cr_expect_eq(halts.named.n, 1, "nothing is kept of who is not halted");
}

Test(halts, without_memory_nothing_changes)
{
    unsigned n = 1;

    for (; n < 10; n++) {
        bool ok;

        memory_fail_at = n;
        ok = halts_set(&halts, "a", HALT_PAUSED, true);
        memory_fail_at = 0;
        if (ok)
            break;
        expect("a", false, false);
    }
    cr_expect_gt(n, 2);
    expect("a", true, false);
}
