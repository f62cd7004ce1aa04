/* tests/fuzz/fuzz_message.c - any bytes as the messages of a session.
 *
 * The first byte says whose they are (its lowest bit) and in which pieces they come: what
 * is seen in them does not depend on that. Every body is read as everything, and what was
 * read and can be written is the same when it is written. Then the types are a
 * conversation for a flow, which may be confused but never at rest with something owed.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/flow.h"
#include "wire/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define BODY_MAX 5000u
#define MESSAGES_MAX 256

struct story {
    size_t n;
    uint8_t types[MESSAGES_MAX];
    uint32_t lengths[MESSAGES_MAX];
    enum message_step end;
};

static void read_names(const struct message_view *message)
{
    struct message_target target;
    struct message_bind bind;
    uint8_t *again = malloc(message->length + MESSAGE_HEADER_BYTES);
    size_t size = message->length + MESSAGE_HEADER_BYTES;

    REQUIRE(again != NULL);
    if (message_read_target(message->body, message->length, &target)) {
        REQUIRE(message_write_target('D', &target, again, size) == size);
        REQUIRE(memcmp(again + 5, message->body, message->length) == 0);
    }
    if (message_read_bind(message->body, message->length, &bind)) {
        REQUIRE(bind.n_head <= message->length);
        REQUIRE(message_write_bind(bind.portal, bind.statement,
                                   message->length - bind.n_head, again,
                                   size) == bind.n_head + 5);
        REQUIRE(wire_read_u32(again + 1) == message->length + 4);
        REQUIRE(memcmp(again + 5, message->body, bind.n_head) == 0);
    }
    free(again);
}

static void read_statement(const struct message_view *message)
{
    struct message_execute execute;
    struct message_parse parse;
    const char *text;
    uint8_t *again = malloc(message->length + MESSAGE_HEADER_BYTES);
    size_t size = message->length + MESSAGE_HEADER_BYTES;

    REQUIRE(again != NULL);
    if (message_read_parse(message->body, message->length, &parse)) {
        REQUIRE(strlen(parse.text) == parse.n_text);
        REQUIRE(message_write_parse(&parse, again, size) == size);
        REQUIRE(memcmp(again + 5, message->body, message->length) == 0);
    }
    if (message_read_execute(message->body, message->length, &execute)) {
        REQUIRE(message_write_execute(&execute, again, size) == size);
        REQUIRE(memcmp(again + 5, message->body, message->length) == 0);
    }
    if (message_read_string(message->body, message->length, &text))
        REQUIRE(strlen(text) + 1 == message->length);
    free(again);
}

static void read_of_server(const struct message_view *message)
{
    struct message_negotiation negotiation;
    struct cancel_key key;
    const char *name, *value;
    char status;
    uint8_t *again = malloc(message->length + MESSAGE_HEADER_BYTES);
    size_t size = message->length + MESSAGE_HEADER_BYTES;

    REQUIRE(again != NULL);
    if (message_read_key(message->body, message->length, &key)) {
        REQUIRE(message_write_key(&key, again, size) == size);
        REQUIRE(memcmp(again + 5, message->body, message->length) == 0);
    }
    if (message_read_parameter(message->body, message->length, &name, &value)) {
        REQUIRE(message_write_parameter(name, value, again, size) == size);
        REQUIRE(memcmp(again + 5, message->body, message->length) == 0);
    }
    if (message_read_ready(message->body, message->length, &status))
        REQUIRE(message_write_ready(status, again, size) == 6 &&
                again[5] == (uint8_t)status);
    if (message_read_negotiation(message->body, message->length, &negotiation))
        for (const char *option = negotiation.options; negotiation.n_options > 0;
             negotiation.n_options--)
            option += strlen(option) + 1;
    free(again);
}

/* Keeps a message until it is whole. Each piece ends where its memory does. */
static struct story tell(const struct message_rules *rules, const uint8_t *bytes,
                         size_t size, size_t piece)
{
    struct story story = {.end = MESSAGE_NONE};
    size_t begin = 0;

    for (size_t end = 0; end < size && story.end <= MESSAGE_NONE;) {
        struct message_walk walk;
        struct message_view message;
        uint32_t n_left = 0;
        uint8_t *copy;

        end = piece < size - end ? end + piece : size;
        copy = malloc(end - begin);
        REQUIRE(copy != NULL);
        memcpy(copy, bytes + begin, end - begin);
        message_walk_begin(&walk, rules, copy, end - begin, &n_left);
        while ((story.end = message_walk_next(&walk, &message)) == MESSAGE_WHOLE) {
            REQUIRE(message.n == message.length && message.length <= BODY_MAX);
            if (story.n == MESSAGES_MAX) {
                free(copy);
                return story;
            }
            story.types[story.n] = message.type;
            story.lengths[story.n++] = message.length;
            if (piece >= size) {
                read_names(&message);
                read_statement(&message);
                read_of_server(&message);
            }
        }
        begin = end - message_walk_rest(&walk);
        free(copy);
    }
    return story;
}

/* Types below 128 are forwarded, the others seen. */
static void converse(const uint8_t *bytes, size_t size)
{
    struct flow flow = {0};

    for (size_t i = 0; i < size; i++) {
        uint8_t type = bytes[i] & 127;
        enum flow_step step;

        if (bytes[i] < 128)
            step = flow_forward(&flow, type);
        else if (type == 'Z')
            step = flow_see_ready(&flow, "ITE"[i % 3]);
        else
            step = flow_see(&flow, type);
        REQUIRE(flow.n_groups <= FLOW_GROUPS);
        REQUIRE(step != FLOW_CONFUSED || flow_need(&flow) == FLOW_NEEDS_CLOSE);
        REQUIRE(flow_is_at_rest(&flow) == (flow_need(&flow) == FLOW_NEEDS_NOTHING));
        REQUIRE(!flow_is_at_rest(&flow) || flow.n_answered == flow.n_forwarded);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct story whole, pieces;
    struct message_rules rules;

    if (size < 1)
        return 0;
    message_rules_init(
        &rules, (bytes[0] & 1) != 0 ? MESSAGE_OF_SERVER : MESSAGE_OF_CLIENT, BODY_MAX);
    whole = tell(&rules, bytes + 1, size - 1, size);
    pieces = tell(&rules, bytes + 1, size - 1, bytes[0] / 2u + 1);
    REQUIRE(whole.n == pieces.n && whole.end == pieces.end);
    REQUIRE(memcmp(whole.types, pieces.types, sizeof whole.types) == 0);
    REQUIRE(memcmp(whole.lengths, pieces.lengths, sizeof whole.lengths) == 0);
    converse(bytes + 1, size - 1);
    return 0;
}
