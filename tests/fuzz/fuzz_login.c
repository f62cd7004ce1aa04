/* tests/fuzz/fuzz_login.c - any bytes as what a server says while a client logs in.
 *
 * The first byte says in which pieces the others come: what is seen in them does not
 * depend on that, and no byte is seen twice or not at all.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define EVENTS_MAX 64

struct story {
    struct login_watch watch;
    enum login_event events[EVENTS_MAX];
    size_t n_events;
    size_t n_seen;
    bool is_over;
};

static void note(struct story *story, enum login_event event)
{
    if (event == LOGIN_KEY)
        REQUIRE(story->watch.key.length >= 4 &&
                story->watch.key.length <= CANCEL_KEY_MAX);
    if (event == LOGIN_REFUSED)
        REQUIRE(strlen(story->watch.error.severity) <
                    sizeof story->watch.error.severity &&
                strlen(story->watch.error.sqlstate) < sizeof story->watch.error.sqlstate);
    if (event != LOGIN_GOES_ON)
        story->events[story->n_events++] = event;
    story->is_over = event == LOGIN_CONFUSED || story->n_events == EVENTS_MAX;
}

static void feed(struct story *story, const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);

    REQUIRE(copy != NULL);
    memcpy(copy, bytes, n);
    for (size_t at = 0; at < n && !story->is_over;) {
        size_t n_seen = 0;
        enum login_event event =
            login_watch_feed(&story->watch, copy + at, n - at, &n_seen);

        REQUIRE(n_seen > 0 && n_seen <= n - at);
        REQUIRE(event != LOGIN_GOES_ON || n_seen == n - at);
        at += n_seen;
        story->n_seen += n_seen;
        note(story, event);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct story whole, pieces;
    size_t piece;

    if (size < 1)
        return 0;
    piece = bytes[0] + 1u;
    memset(&whole, 0, sizeof whole);
    memset(&pieces, 0, sizeof pieces);
    feed(&whole, bytes + 1, size - 1);
    for (size_t at = 1; at < size && !pieces.is_over; at += piece)
        feed(&pieces, bytes + at, piece < size - at ? piece : size - at);
    REQUIRE(whole.n_events == pieces.n_events && whole.n_seen == pieces.n_seen);
    REQUIRE(memcmp(whole.events, pieces.events, sizeof whole.events) == 0);
    REQUIRE(login_watch_is_undecided(&whole.watch) ==
            login_watch_is_undecided(&pieces.watch));
    REQUIRE(memcmp(&whole.watch.error, &pieces.watch.error, sizeof whole.watch.error) ==
            0);
    REQUIRE(whole.watch.key.process_id == pieces.watch.key.process_id &&
            whole.watch.key.length == pieces.watch.key.length &&
            memcmp(whole.watch.key.secret, pieces.watch.key.secret,
                   whole.watch.key.length) == 0);
    return 0;
}
