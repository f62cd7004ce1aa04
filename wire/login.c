#include "wire/login.h"

#include <string.h>

/* No message of a login is longer: the protocol's own limit for the long ones that a
 * server sends early (PQ_LARGE_MESSAGE_LIMIT is 1 GB; a login has nothing near a
 * megabyte). */
#define LOGIN_MESSAGE_MAX (1u << 20)

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Takes bytes into the header; true when it is whole. */
static bool read_header(struct login_watch *watch, const uint8_t **at, const uint8_t *end)
{
    size_t n = smaller(sizeof watch->header - watch->n_header, (size_t)(end - *at));

    memcpy(watch->header + watch->n_header, *at, n);
    watch->n_header += (uint8_t)n;
    *at += n;
    if (watch->n_header < sizeof watch->header)
        return false;
    if (watch->first == 0 && watch->header[0] != 'v')
        watch->first = watch->header[0];
    watch->body_left = wire_read_u32(watch->header + 1) - 4;
    watch->n_kept = 0;
    return true;
}

static bool is_looked_into(uint8_t type)
{
    return type == 'K' || type == 'E';
}

static void read_body(struct login_watch *watch, const uint8_t **at, const uint8_t *end)
{
    size_t n = smaller(watch->body_left, (size_t)(end - *at));

    if (is_looked_into(watch->header[0])) {
        size_t keep = smaller(n, sizeof watch->kept - watch->n_kept);

        memcpy(watch->kept + watch->n_kept, *at, keep);
        watch->n_kept += (uint16_t)keep;
    }
    watch->body_left -= (uint32_t)n;
    *at += n;
}

static enum login_event read_key(struct login_watch *watch)
{
    uint32_t length = wire_read_u32(watch->header + 1) - 4;

    if (length < 4 + 4 || length > 4 + CANCEL_KEY_MAX)
        return LOGIN_CONFUSED;
    watch->key.process_id = wire_read_u32(watch->kept);
    watch->key.length = (uint16_t)(length - 4);
    memcpy(watch->key.secret, watch->kept + 4, watch->key.length);
    return LOGIN_KEY;
}

/* A message is complete: what does it mean for the login? */
static enum login_event event_of(struct login_watch *watch)
{
    switch (watch->header[0]) {
    case 'K':
        return read_key(watch);
    case 'E':
        error_read(watch->kept, watch->n_kept, &watch->error);
        watch->has_error = true;
        return LOGIN_REFUSED;
    case 'Z':
        return LOGIN_DONE;
    default:
        return LOGIN_GOES_ON;
    }
}

enum login_event login_watch_feed(struct login_watch *watch, const uint8_t *bytes,
                                  size_t n, size_t *n_seen)
{
    const uint8_t *at = bytes, *end = bytes + n;
    enum login_event event = LOGIN_GOES_ON;

    while (event == LOGIN_GOES_ON) {
        if (watch->n_header < sizeof watch->header) {
            if (!read_header(watch, &at, end))
                break;
            if (wire_read_u32(watch->header + 1) < 4 ||
                watch->body_left > LOGIN_MESSAGE_MAX) {
                event = LOGIN_CONFUSED;
                break;
            }
        }
        read_body(watch, &at, end);
        if (watch->body_left > 0)
            break;
        watch->n_header = 0;
        event = event_of(watch);
    }
    *n_seen = (size_t)(at - bytes);
    return event;
}

bool login_watch_is_undecided(const struct login_watch *watch)
{
    return watch->first == 0 || (watch->first == 'E' && !watch->has_error);
}
