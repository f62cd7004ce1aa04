#include "router/console/say.h"

#include "router/console/row.h"
#include "router/worker.h"
#include "wire/message.h"

void say_flush(struct say *say)
{
    struct buffer *out = say->out;

    if (out == NULL)
        return;
    say->out = NULL;
    say->client->n_bytes[1] += buffer_unread(out);
    say->client->worker->console_counts.bytes_sent += buffer_unread(out);
    (void)stream_send(&say->client->stream, out);
}

bool say_bytes(struct say *say, const void *bytes, size_t n)
{
    if (say->client->state != CLIENT_CONSOLE)
        return false;
    if (say->out != NULL && buffer_room(say->out) < n)
        say_flush(say);
    if (say->out == NULL)
        say->out = buffer_take(say->client->worker->loop->pond);
    if (say->out != NULL && buffer_add(say->out, bytes, (uint32_t)n))
        return true;
    client_close(say->client, CLOSE_NO_MEMORY);
    return false;
}

bool say_all(struct say *say, const char *bytes, size_t n)
{
    const size_t most = BUFFER_BYTES / 2;

    for (size_t done = 0, piece; done < n; done += piece) {
        piece = n - done < most ? n - done : most;
        if (!say_bytes(say, bytes + done, piece))
            return false;
    }
    return true;
}

bool say_empty(struct say *say, char type)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES];

    return say_bytes(say, bytes, message_write_empty(type, bytes, sizeof bytes));
}

bool say_tag(struct say *say, const char *tag)
{
    uint8_t bytes[64];

    return say_bytes(say, bytes, message_write_string('C', tag, bytes, sizeof bytes));
}

bool say_ready(struct say *say)
{
    uint8_t bytes[16];

    return say_bytes(say, bytes, message_write_ready('I', bytes, sizeof bytes));
}

bool say_error(struct say *say, const char *sqlstate, const char *text)
{
    const struct message_report report = {
        .severity = "ERROR", .sqlstate = sqlstate, .text = text};
    uint8_t bytes[REPLY_MAX];

    return say_bytes(say, bytes, message_write_report('E', &report, bytes, sizeof bytes));
}

bool say_columns(struct say *say, enum view_name name, uint64_t binary,
                 const char *name_of_first)
{
    struct view view = view_of(name);
    struct text text;
    bool ok;

    if (view.n == 0)
        return say_empty(say, 'n');
    text_init(&text, REPLY_MAX - 1);
    row_describe(&view, binary, name_of_first, &text);
    ok = say_bytes(say, text_get(&text), text.length);
    text_clear(&text);
    return ok;
}
