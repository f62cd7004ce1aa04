/* tests/fuzz/fuzz_etcd.c - any bytes as what etcd's gateway sends, cut anywhere.
 *
 * The first byte chooses: an answer to a range, a watch, or the value of one of Patroni's
 * keys. What comes of it may be nonsense, but no text of it that is not printable, and no
 * request without somebody named.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/check.h"
#include "health/etcd_message.h"
#include "health/etcd_stream.h"
#include "health/patroni_keys.h"

#define PREFIX "/service/main/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    REQUIRE(memchr(text, '\0', size) != NULL);
    for (; *text != '\0'; text++)
        REQUIRE(*text >= ' ' && *text <= '~');
}

static void check_member(const struct store_view *view, const struct store_member *member)
{
    struct sample sample;

    check_text(member->name, sizeof member->name);
    check_text(member->host, sizeof member->host);
    check_text(member->state, sizeof member->state);
    REQUIRE(member->host[0] == '\0' || member->port != 0);
    store_view_sample(view, member, &sample);
    check_text(sample.said, sizeof sample.said);
    REQUIRE(sample.outcome != SAMPLE_OK || sample.role != NODE_UNKNOWN);
    REQUIRE(sample.outcome != SAMPLE_OK || sample.role != NODE_PRIMARY ||
            sample.timeline != 0);
}

static void check_keys(const struct store_keys *keys)
{
    struct store_view view = {0};

    if (!patroni_keys_read(keys, &view))
        return;
    check_text(view.leader, sizeof view.leader);
    check_text(view.system_id, sizeof view.system_id);
    check_text(view.request.from, sizeof view.request.from);
    check_text(view.request.to, sizeof view.request.to);
    REQUIRE(!view.request.is_there || view.request.from[0] != '\0' ||
            view.request.to[0] != '\0');
    REQUIRE(view.request.due_ms >= 0);
    REQUIRE(view.loop_wait_ms >= 1000 && view.ttl_ms >= 1000);
    for (size_t i = 0; i < view.n_members; i++)
        check_member(&view, &view.members[i]);
    store_view_clear(&view);
}

static void try_range(const char *text, size_t size)
{
    struct store_keys keys = {0};
    struct etcd_said said;

    etcd_read_range(text, size, PREFIX, &said, &keys);
    check_text(said.words, sizeof said.words);
    REQUIRE(said.meaning == ETCD_DONE || keys.n == 0);
    check_keys(&keys);
    store_keys_clear(&keys);
}

/* In pieces of a length that the data says. */
static void try_watch(const char *text, size_t size)
{
    size_t piece = size > 0 ? (size_t)(uint8_t)text[0] + 1 : 1, length;
    struct etcd_stream stream = {0};
    struct store_keys keys = {0};
    int64_t revision = 1;
    const char *message;

    for (size_t at = 1; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (!etcd_stream_add(&stream, text + at, n))
            break;
        while ((message = etcd_stream_next(&stream, &length)) != NULL) {
            struct etcd_said said;

            etcd_read_watch(message, length, PREFIX, &said, &keys, &revision);
            check_text(said.words, sizeof said.words);
            check_keys(&keys);
        }
    }
    REQUIRE(revision >= 1);
    etcd_stream_clear(&stream);
    store_keys_clear(&keys);
}

static void try_value(unsigned which, const char *text, size_t size)
{
    static const char *const names[] = {"leader",     "failover",     "config",
                                        "status",     "members/a",    "sync",
                                        "initialize", "optime/leader"};
    static const char value[] = "b";
    struct store_keys keys = {0};

    for (size_t i = 0; i < 2; i++) {
        const char *name = i == 0 ? "members/b" : names[which % COUNT_OF(names)];
        const struct store_key key = {.name = (char *)name,
                                      .name_length = strlen(name),
                                      .value = (char *)(i == 0 ? value : text),
                                      .length = i == 0 ? 1 : size,
                                      .created_at = 1,
                                      .changed_at = 1};

        if (!store_keys_put(&keys, &key))
            break;
    }
    check_keys(&keys);
    store_keys_clear(&keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;

    if (size < 1)
        return 0;
    if (data[0] == 'r')
        try_range(text, size - 1);
    else if (data[0] == 'w')
        try_watch(text, size - 1);
    else
        try_value(data[0], text, size - 1);
    return 0;
}
