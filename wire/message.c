#include "wire/message.h"

#include <string.h>

/* ---- walking ------------------------------------------------------------------------
 */

/* Types and their limits as in SocketBackend(), src/backend/tcop/postgres.c; but
 * PostgreSQL answers a body where none belongs with an error. */
static const uint8_t sizes_of_client[256] = {
    ['Q'] = MESSAGE_LARGE, /* Query */
    ['F'] = MESSAGE_LARGE, /* FunctionCall */
    ['P'] = MESSAGE_LARGE, /* Parse */
    ['B'] = MESSAGE_LARGE, /* Bind */
    ['D'] = MESSAGE_SMALL, /* Describe */
    ['E'] = MESSAGE_SMALL, /* Execute */
    ['C'] = MESSAGE_SMALL, /* Close */
    ['S'] = MESSAGE_EMPTY, /* Sync */
    ['H'] = MESSAGE_EMPTY, /* Flush */
    ['d'] = MESSAGE_LARGE, /* CopyData */
    ['c'] = MESSAGE_EMPTY, /* CopyDone */
    ['f'] = MESSAGE_SMALL, /* CopyFail */
    ['p'] = MESSAGE_LARGE, /* PasswordMessage and those of SASL */
    ['X'] = MESSAGE_EMPTY, /* Terminate */
};

static const uint8_t sizes_of_server[256] = {
    ['R'] = MESSAGE_LARGE, /* Authentication... */
    ['v'] = MESSAGE_LARGE, /* NegotiateProtocolVersion */
    ['K'] = MESSAGE_SMALL, /* BackendKeyData */
    ['S'] = MESSAGE_LARGE, /* ParameterStatus */
    ['Z'] = MESSAGE_SMALL, /* ReadyForQuery */
    ['E'] = MESSAGE_LARGE, /* ErrorResponse */
    ['N'] = MESSAGE_LARGE, /* NoticeResponse */
    ['A'] = MESSAGE_LARGE, /* NotificationResponse */
    ['T'] = MESSAGE_LARGE, /* RowDescription */
    ['D'] = MESSAGE_LARGE, /* DataRow */
    ['C'] = MESSAGE_SMALL, /* CommandComplete */
    ['I'] = MESSAGE_EMPTY, /* EmptyQueryResponse */
    ['1'] = MESSAGE_EMPTY, /* ParseComplete */
    ['2'] = MESSAGE_EMPTY, /* BindComplete */
    ['3'] = MESSAGE_EMPTY, /* CloseComplete */
    ['t'] = MESSAGE_LARGE, /* ParameterDescription */
    ['n'] = MESSAGE_EMPTY, /* NoData */
    ['s'] = MESSAGE_EMPTY, /* PortalSuspended */
    ['G'] = MESSAGE_SMALL, /* CopyInResponse */
    ['H'] = MESSAGE_SMALL, /* CopyOutResponse */
    ['W'] = MESSAGE_SMALL, /* CopyBothResponse */
    ['d'] = MESSAGE_LARGE, /* CopyData */
    ['c'] = MESSAGE_EMPTY, /* CopyDone */
    ['V'] = MESSAGE_LARGE, /* FunctionCallResponse */
};

void message_rules_init(struct message_rules *rules, enum message_side side,
                        uint32_t body_max)
{
    REQUIRE(body_max <= INT32_MAX - 4);
    rules->sizes = side == MESSAGE_OF_CLIENT ? sizes_of_client : sizes_of_server;
    rules->body_max[MESSAGE_ILLEGAL] = 0;
    rules->body_max[MESSAGE_EMPTY] = 0;
    rules->body_max[MESSAGE_SMALL] =
        body_max < MESSAGE_SMALL_MAX ? body_max : MESSAGE_SMALL_MAX;
    rules->body_max[MESSAGE_LARGE] = body_max;
}

enum message_step message_explain(const struct message_rules *rules, const uint8_t *bytes,
                                  size_t n)
{
    if (n == 0)
        return MESSAGE_NONE;
    if (rules->sizes[bytes[0]] == MESSAGE_ILLEGAL)
        return MESSAGE_UNKNOWN;
    if (n < MESSAGE_HEADER_BYTES)
        return MESSAGE_CUT;
    return wire_read_u32(bytes + 1) < 4 ? MESSAGE_TOO_SHORT : MESSAGE_TOO_LONG;
}

/* ---- reading bodies -----------------------------------------------------------------
 */

/* What is left of a body. */
struct rest {
    const uint8_t *at;
    size_t n;
};

/* The string at its begin; NULL when it has no end. */
static const char *take_string(struct rest *rest)
{
    const char *string = (const char *)rest->at;
    const uint8_t *end = rest->n > 0 ? memchr(rest->at, 0, rest->n) : NULL;

    if (end == NULL)
        return NULL;
    rest->n -= (size_t)(end + 1 - rest->at);
    rest->at = end + 1;
    return string;
}

static bool take_u32(struct rest *rest, uint32_t *value)
{
    if (rest->n < 4)
        return false;
    *value = wire_read_u32(rest->at);
    rest->at += 4;
    rest->n -= 4;
    return true;
}

bool message_read_string(const uint8_t *body, size_t n, const char **string)
{
    struct rest rest = {body, n};
    const char *found = take_string(&rest);

    if (found == NULL || rest.n > 0)
        return false;
    *string = found;
    return true;
}

bool message_read_ready(const uint8_t *body, size_t n, char *status)
{
    if (n != 1 || (body[0] != 'I' && body[0] != 'T' && body[0] != 'E'))
        return false;
    *status = (char)body[0];
    return true;
}

bool message_read_parameter(const uint8_t *body, size_t n, const char **name,
                            const char **value)
{
    struct rest rest = {body, n};
    const char *first = take_string(&rest);
    const char *second = take_string(&rest);

    if (first == NULL || second == NULL || rest.n > 0)
        return false;
    *name = first;
    *value = second;
    return true;
}

bool message_read_key(const uint8_t *body, size_t n, struct cancel_key *key)
{
    if (n < 4 + 4 || n > 4 + CANCEL_KEY_MAX)
        return false;
    key->process_id = wire_read_u32(body);
    key->length = (uint16_t)(n - 4);
    memcpy(key->secret, body + 4, n - 4);
    return true;
}

bool message_read_negotiation(const uint8_t *body, size_t n,
                              struct message_negotiation *negotiation)
{
    struct message_negotiation found;
    struct rest rest = {body, n};

    if (!take_u32(&rest, &found.protocol) || !take_u32(&rest, &found.n_options))
        return false;
    found.options = (const char *)rest.at;
    for (uint32_t i = 0; i < found.n_options; i++)
        if (take_string(&rest) == NULL)
            return false;
    if (rest.n > 0)
        return false;
    *negotiation = found;
    return true;
}

bool message_read_parse(const uint8_t *body, size_t n, struct message_parse *parse)
{
    struct message_parse found;
    struct rest rest = {body, n};

    found.name = take_string(&rest);
    found.text = take_string(&rest);
    if (found.name == NULL || found.text == NULL || rest.n < 2)
        return false;
    found.n_text = (size_t)((const char *)rest.at - found.text) - 1;
    found.n_types = (uint16_t)(rest.at[0] << 8 | rest.at[1]);
    found.types = rest.at + 2;
    if (rest.n - 2 != 4u * (size_t)found.n_types)
        return false;
    *parse = found;
    return true;
}

bool message_read_bind(const uint8_t *body, size_t n, struct message_bind *bind)
{
    struct rest rest = {body, n};
    const char *portal = take_string(&rest);
    const char *statement = take_string(&rest);

    if (portal == NULL || statement == NULL)
        return false;
    bind->portal = portal;
    bind->statement = statement;
    bind->n_head = n - rest.n;
    return true;
}

bool message_read_target(const uint8_t *body, size_t n, struct message_target *target)
{
    const char *name;

    if (n < 1 || !message_read_string(body + 1, n - 1, &name))
        return false;
    target->kind = (char)body[0];
    target->name = name;
    return true;
}

bool message_read_execute(const uint8_t *body, size_t n, struct message_execute *execute)
{
    struct message_execute found;
    struct rest rest = {body, n};

    found.portal = take_string(&rest);
    if (found.portal == NULL || !take_u32(&rest, &found.n_rows_max) || rest.n > 0)
        return false;
    *execute = found;
    return true;
}

/* ---- writing ------------------------------------------------------------------------
 */

/* A message under way. What does not fit is only counted. */
struct draft {
    uint8_t *bytes;
    size_t size;
    size_t n;
};

static void put(struct draft *draft, const void *bytes, size_t n)
{
    if (n > 0 && draft->n <= draft->size && n <= draft->size - draft->n)
        memcpy(draft->bytes + draft->n, bytes, n);
    draft->n += n;
}

static void put_byte(struct draft *draft, uint8_t byte)
{
    put(draft, &byte, 1);
}

static void put_u32(struct draft *draft, uint32_t value)
{
    uint8_t bytes[4];

    wire_write_u32(bytes, value);
    put(draft, bytes, sizeof bytes);
}

static void put_string(struct draft *draft, const char *string)
{
    put(draft, string, strlen(string) + 1);
}

static struct draft begin(char type, uint8_t *bytes, size_t size)
{
    struct draft draft;

    draft.bytes = bytes;
    draft.size = size;
    draft.n = 0;
    put_byte(&draft, (uint8_t)type);
    put_u32(&draft, 0);
    return draft;
}

/* Writes the length, `n_rest` more bytes of body counted in, which others send. */
static size_t end_before(struct draft *draft, size_t n_rest)
{
    if (draft->n > draft->size || draft->n > INT32_MAX || n_rest > INT32_MAX - draft->n)
        return 0;
    wire_write_u32(draft->bytes + 1, (uint32_t)(draft->n - 1 + n_rest));
    return draft->n;
}

static size_t end(struct draft *draft)
{
    return end_before(draft, 0);
}

size_t message_write_empty(char type, uint8_t *bytes, size_t size)
{
    struct draft draft = begin(type, bytes, size);

    return end(&draft);
}

size_t message_write_string(char type, const char *string, uint8_t *bytes, size_t size)
{
    struct draft draft = begin(type, bytes, size);

    put_string(&draft, string);
    return end(&draft);
}

size_t message_write_parse(const struct message_parse *parse, uint8_t *bytes, size_t size)
{
    struct draft draft = begin('P', bytes, size);

    put_string(&draft, parse->name);
    put(&draft, parse->text, parse->n_text);
    put_byte(&draft, 0);
    put_byte(&draft, (uint8_t)(parse->n_types >> 8));
    put_byte(&draft, (uint8_t)parse->n_types);
    put(&draft, parse->types, 4u * (size_t)parse->n_types);
    return end(&draft);
}

size_t message_write_bind(const char *portal, const char *statement, size_t n_rest,
                          uint8_t *bytes, size_t size)
{
    struct draft draft = begin('B', bytes, size);

    put_string(&draft, portal);
    put_string(&draft, statement);
    return end_before(&draft, n_rest);
}

size_t message_write_target(char type, const struct message_target *target,
                            uint8_t *bytes, size_t size)
{
    struct draft draft = begin(type, bytes, size);

    put_byte(&draft, (uint8_t)target->kind);
    put_string(&draft, target->name);
    return end(&draft);
}

size_t message_write_execute(const struct message_execute *execute, uint8_t *bytes,
                             size_t size)
{
    struct draft draft = begin('E', bytes, size);

    put_string(&draft, execute->portal);
    put_u32(&draft, execute->n_rows_max);
    return end(&draft);
}

size_t message_write_ready(char status, uint8_t *bytes, size_t size)
{
    struct draft draft = begin('Z', bytes, size);

    put_byte(&draft, (uint8_t)status);
    return end(&draft);
}

size_t message_write_parameter(const char *name, const char *value, uint8_t *bytes,
                               size_t size)
{
    struct draft draft = begin('S', bytes, size);

    put_string(&draft, name);
    put_string(&draft, value);
    return end(&draft);
}

size_t message_write_key(const struct cancel_key *key, uint8_t *bytes, size_t size)
{
    struct draft draft = begin('K', bytes, size);

    put_u32(&draft, key->process_id);
    put(&draft, key->secret, key->length);
    return end(&draft);
}

size_t message_write_negotiation(uint32_t protocol, const char *const *options,
                                 uint32_t n_options, uint8_t *bytes, size_t size)
{
    struct draft draft = begin('v', bytes, size);

    put_u32(&draft, protocol);
    put_u32(&draft, n_options);
    for (uint32_t i = 0; i < n_options; i++)
        put_string(&draft, options[i]);
    return end(&draft);
}

static void put_field(struct draft *draft, char letter, const char *text)
{
    put_byte(draft, (uint8_t)letter);
    put_string(draft, text);
}

size_t message_write_report(char type, const struct message_report *report,
                            uint8_t *bytes, size_t size)
{
    struct draft draft = begin(type, bytes, size);

    put_field(&draft, 'S', report->severity);
    put_field(&draft, 'V', report->severity);
    put_field(&draft, 'C', report->sqlstate);
    put_field(&draft, 'M', report->text);
    if (report->detail != NULL)
        put_field(&draft, 'D', report->detail);
    if (report->hint != NULL)
        put_field(&draft, 'H', report->hint);
    put_byte(&draft, 0);
    return end(&draft);
}
