#include "core/edit.h"

static bool add_buffer(struct edit *edit)
{
    struct buffer *buffer = buffer_take(edit->pond);

    if (buffer == NULL)
        return false;
    if (edit->last == NULL)
        edit->first = buffer;
    else
        edit->last->next = buffer;
    edit->last = buffer;
    return true;
}

static void append(struct edit *edit, const uint8_t *bytes, size_t n)
{
    edit->n_out += n;
    while (n > 0 && !edit->has_failed) {
        uint32_t room = edit->last == NULL ? 0 : buffer_room(edit->last);
        uint32_t n_now = n < room ? (uint32_t)n : room;

        if (room == 0) {
            edit->has_failed = !add_buffer(edit);
            continue;
        }
        REQUIRE(buffer_add(edit->last, bytes, n_now));
        bytes += n_now;
        n -= n_now;
    }
}

/* What stands before `to` stays as it is. */
static void keep(struct edit *edit, size_t to)
{
    REQUIRE(to >= edit->n_done);
    append(edit, edit->bytes + edit->n_done, to - edit->n_done);
    edit->n_done = to;
}

void edit_cut(struct edit *edit, size_t from, size_t to)
{
    REQUIRE(to >= from);
    edit->is_changed = true;
    keep(edit, from);
    edit->n_done = to;
}

void edit_insert(struct edit *edit, size_t at, const void *bytes, size_t n)
{
    edit->is_changed = true;
    keep(edit, at);
    append(edit, bytes, n);
}

void edit_drop(struct edit *edit)
{
    struct buffer *buffer;

    while ((buffer = edit->first) != NULL) {
        edit->first = buffer->next;
        buffer_give(buffer);
    }
    edit->last = NULL;
}

bool edit_end(struct edit *edit, size_t n)
{
    if (!edit->is_changed)
        return true;
    keep(edit, n);
    if (!edit->has_failed)
        return true;
    edit_drop(edit);
    return false;
}
