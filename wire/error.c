#include "wire/error.h"

#include <stdio.h>
#include <string.h>

#include "wire/startup.h"

const uint8_t tls_alert_internal_error[TLS_ALERT_BYTES] = {
    21,    /* ContentType alert */
    3,  3, /* legacy_record_version */
    0,  2, /* length */
    2,     /* fatal */
    80,    /* internal_error */
};

/* One field: its letter, its text, a zero byte. What does not fit is cut. */
static size_t add_field(uint8_t *bytes, size_t at, char letter, const char *text)
{
    size_t room = ERROR_BYTES_MAX - at - 3; /* letter, zero byte, end of message */
    size_t length = strlen(text);

    if (length > room)
        length = room;
    bytes[at++] = (uint8_t)letter;
    memcpy(bytes + at, text, length);
    bytes[at + length] = 0;
    return at + length + 1;
}

size_t error_write(const char *sqlstate, const char *message, const char *hint,
                   uint8_t bytes[ERROR_BYTES_MAX])
{
    size_t at = 5;

    at = add_field(bytes, at, 'S', "FATAL");
    at = add_field(bytes, at, 'V', "FATAL");
    at = add_field(bytes, at, 'C', sqlstate);
    at = add_field(bytes, at, 'M', message);
    if (hint != NULL && at + 3 < ERROR_BYTES_MAX)
        at = add_field(bytes, at, 'H', hint);
    bytes[at++] = 0;
    bytes[0] = 'E';
    wire_write_u32(bytes + 1, (uint32_t)at - 1);
    return at;
}

static bool has_field(const uint8_t *body, size_t n, char letter)
{
    for (size_t at = 0; at < n && body[at] != 0;) {
        const uint8_t *end = memchr(body + at, 0, n - at);

        if (body[at] == (uint8_t)letter || end == NULL)
            return true;
        at = (size_t)(end - body) + 1;
    }
    return false;
}

size_t error_add_hint(uint8_t *bytes, size_t n, size_t size, const char *hint)
{
    size_t n_text = strlen(hint) + 1, added = 1 + n_text;

    if (n < 7 || bytes[n - 1] != 0 || bytes[n - 2] != 0 || size - n < added ||
        has_field(bytes + 5, n - 6, 'H'))
        return n;
    bytes[n - 1] = 'H';
    memcpy(bytes + n, hint, n_text);
    bytes[n + n_text] = 0;
    wire_write_u32(bytes + 1, (uint32_t)(n + added - 1));
    return n + added;
}

void error_read(const uint8_t *body, size_t n, struct error_fields *fields)
{
    size_t at = 0;

    memset(fields, 0, sizeof *fields);
    while (at + 1 < n && body[at] != 0) {
        const char *text = (const char *)body + at + 1;
        const char *end = memchr(text, 0, n - at - 1);

        if (end == NULL)
            return;
        if (body[at] == 'V' || (body[at] == 'S' && fields->severity[0] == '\0'))
            snprintf(fields->severity, sizeof fields->severity, "%s", text);
        else if (body[at] == 'C')
            snprintf(fields->sqlstate, sizeof fields->sqlstate, "%s", text);
        else if (body[at] == 'M')
            snprintf(fields->text, sizeof fields->text, "%s", text);
        at = (size_t)((const uint8_t *)end - body) + 1;
    }
}
