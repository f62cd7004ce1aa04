#include "pool/cancel_keys.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/fault.h"

static struct cancel_keys *keys;

static void make_keys(void)
{
    keys = cancel_keys_new();
}

static void free_keys(void)
{
    cancel_keys_free(keys);
}

TestSuite(cancel_keys, .init = make_keys, .fini = free_keys, .timeout = 20);

static struct cancel_key key_of(uint32_t process_id, uint16_t length, uint8_t filler)
{
    struct cancel_key key = {.process_id = process_id, .length = length};

    memset(key.secret, filler, length);
    return key;
}

static struct cancel_entry *add(struct cancel_key key, uint32_t node_id)
{
    struct cancel_entry *entry = cancel_keys_add(keys, &key, node_id);

    cr_assert_not_null(entry);
    return entry;
}

static void expect_node(struct cancel_key key, uint32_t wanted)
{
    uint32_t node_id = 4711;
    void *client;

    if (wanted == 0) {
        cr_expect_not(cancel_keys_find(keys, &key, &node_id, &client));
        cr_expect_eq(node_id, 4711, "untouched when nobody has it");
    } else {
        cr_expect(cancel_keys_find(keys, &key, &node_id, &client));
        cr_expect_eq(node_id, wanted);
        cr_expect_null(client);
    }
}

Test(cancel_keys, finds_the_node_that_issued_the_key)
{
    struct cancel_entry *a = add(key_of(1, 4, 'a'), 10), *b = add(key_of(2, 4, 'a'), 20);

    expect_node(key_of(1, 4, 'a'), 10);
    expect_node(key_of(2, 4, 'a'), 20);
    cancel_keys_remove(keys, a);
    expect_node(key_of(1, 4, 'a'), 0);
    expect_node(key_of(2, 4, 'a'), 20);
    cancel_keys_remove(keys, b);
    expect_node(key_of(2, 4, 'a'), 0);
}

Test(cancel_keys, compares_all_of_the_key)
{
    struct cancel_entry *a = add(key_of(1, 4, 'a'), 10);
    struct cancel_entry *b = add(key_of(1, 256, 'a'), 20);
    struct cancel_key last = key_of(1, 256, 'a');

    expect_node(key_of(1, 4, 'b'), 0);
    expect_node(key_of(3, 4, 'a'), 0);
    expect_node(key_of(1, 5, 'a'), 0);
    expect_node(key_of(1, 3, 'a'), 0);
    last.secret[255] = 'b';
    expect_node(last, 0);
    expect_node(key_of(1, 256, 'a'), 20);
    cancel_keys_remove(keys, a);
    cancel_keys_remove(keys, b);
}

Test(cancel_keys, keeps_a_key_that_two_nodes_have_issued_until_both_are_gone)
{
    struct cancel_entry *a = add(key_of(1, 4, 'a'), 10), *b = add(key_of(1, 4, 'a'), 20);
    struct cancel_key key = key_of(1, 4, 'a');
    uint32_t node_id;
    void *client;

    cr_expect(cancel_keys_find(keys, &key, &node_id, &client));
    cr_expect(node_id == 10 || node_id == 20);
    cancel_keys_remove(keys, a);
    expect_node(key, 20);
    cancel_keys_remove(keys, b);
    expect_node(key, 0);
}

Test(cancel_keys, holds_thousands)
{
    static struct cancel_entry *entries[5000];

    for (uint32_t i = 0; i < COUNT_OF(entries); i++)
        entries[i] = add(key_of(i, (uint16_t)(4 + i % 253), (uint8_t)i), i + 1);
    for (uint32_t i = 0; i < COUNT_OF(entries); i += 2)
        cancel_keys_remove(keys, entries[i]);
    for (uint32_t i = 0; i < COUNT_OF(entries); i++)
        expect_node(key_of(i, (uint16_t)(4 + i % 253), (uint8_t)i), i % 2 ? i + 1 : 0);
    for (uint32_t i = 1; i < COUNT_OF(entries); i += 2)
        cancel_keys_remove(keys, entries[i]);
}

Test(cancel_keys, are_not_freed_while_a_session_lives, .signal = SIGABRT)
{
    add(key_of(1, 4, 'a'), 10);
    cancel_keys_free(keys);
}

static void use_one(void *unused)
{
    struct cancel_keys *one = cancel_keys_new();
    struct cancel_key key = key_of(1, 32, 'x');
    struct cancel_entry *entry;
    uint32_t node_id;
    void *client;

    (void)unused;
    if (one == NULL)
        return;
    entry = cancel_keys_add(one, &key, 5);
    cr_expect_eq(cancel_keys_find(one, &key, &node_id, &client), entry != NULL);
    if (entry != NULL)
        cancel_keys_remove(one, entry);
    cancel_keys_free(one);
}

Test(cancel_keys, survive_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(use_one, NULL), 2);
}

/* ---- keys of our own ----------------------------------------------------------------
 */

Test(cancel_keys, own_ones_have_the_peer_where_pgbouncer_has_it)
{
    static const unsigned ids[] = {1, 255, 256, 0x1234, 16383};

    for (unsigned i = 0; i < 2 * COUNT_OF(ids); i++) {
        struct cancel_key key = {0};

        cr_assert(cancel_key_make(&key, ids[i / 2], i % 2 == 1));
        cr_expect_eq(key.length, i % 2 == 1 ? 32 : 4);
        cr_expect_eq(key.process_id >> 16 & 0xff, ids[i / 2] & 0xff);
        cr_expect_eq(key.process_id >> 8 & 0xff, ids[i / 2] >> 8);
        cr_expect_eq(key.process_id >> 31, 0);
        cr_expect_eq(key.secret[3] & 3, 3);
        cr_expect_eq(cancel_key_peer(&key), ids[i / 2]);
    }
}

/* Each bit that may be random is both in some hundred keys. */
Test(cancel_keys, own_ones_are_random_in_all_else)
{
    uint8_t seen_1[36] = {0}, seen_0[36] = {0};

    for (unsigned i = 0; i < 300; i++) {
        struct cancel_key key;
        uint8_t bytes[36];

        cr_assert(cancel_key_make(&key, 0, true));
        wire_write_u32(bytes, key.process_id);
        memcpy(bytes + 4, key.secret, 32);
        for (unsigned at = 0; at < sizeof bytes; at++) {
            seen_1[at] |= bytes[at];
            seen_0[at] |= (uint8_t)~bytes[at];
        }
    }
    cr_expect_eq(seen_1[0], 0x7f);
    for (unsigned at = 0; at < sizeof seen_1; at++) {
        cr_expect(at == 0 || seen_1[at] == 0xff);
        cr_expect_eq(seen_0[at], 0xff);
    }
}

Test(cancel_keys, are_passed_on_three_times)
{
    struct cancel_key key, made;

    cr_assert(cancel_key_make(&made, 7, false));
    key = made;
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(cancel_key_spend(&key));
        cr_expect_neq(memcmp(key.secret, made.secret, 4), 0);
        cr_expect_eq(cancel_key_peer(&key), 7);
    }
    cr_expect_not(cancel_key_spend(&key));
    cancel_key_renew(&key);
    cr_expect_eq(memcmp(key.secret, made.secret, 4), 0);
    cr_expect_eq(key.process_id, made.process_id);
}

/* ---- how often ----------------------------------------------------------------------
 */

static struct cancel_rates rates;

static unsigned n_allowed(const char *host, unsigned n, uint64_t now_ms)
{
    struct address address;
    unsigned allowed = 0;

    cr_assert(address_parse(host, 5000, &address));
    while (n-- > 0) {
        address_set_port(&address, (uint16_t)n); /* each comes by its own connection */
        allowed += cancel_rates_allow(&rates, &address, now_ms);
    }
    return allowed;
}

Test(cancel_keys, twenty_requests_of_an_address_pass_in_each_second)
{
    cr_expect_eq(n_allowed("10.0.0.1", 21, 5000), 20);
    cr_expect_eq(n_allowed("10.0.0.1", 5, 5999), 0);
    cr_expect_eq(n_allowed("10.0.0.1", 100, 6000), 20, "a new second");
}

Test(cancel_keys, addresses_are_counted_by_themselves)
{
    cr_expect_eq(n_allowed("10.0.0.1", 30, 5000), 20);
    cr_expect_eq(n_allowed("10.0.0.2", 30, 5000), 20);
    cr_expect_eq(n_allowed("2001:db8::1", 30, 5000), 20);
    cr_expect_eq(n_allowed("::ffff:10.0.0.1", 30, 5000), 0, "the same address");
}

Test(cancel_keys, the_first_second_of_the_clock_counts_too)
{
    cr_expect_eq(n_allowed("0.0.0.0", 30, 0), 20);
}
