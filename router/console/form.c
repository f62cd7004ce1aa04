#include "router/console/form.h"

#include <string.h>

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "a%20b+c". False: too long, or no such encoding. */
static bool decode(const char *from, size_t n, char *to, size_t size)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++) {
        char c = from[i] == '+' ? ' ' : from[i];

        if (c == '%') {
            int high = i + 2 < n ? digit_of(from[i + 1]) : -1;
            int low = high < 0 ? -1 : digit_of(from[i + 2]);

            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (length + 1 == size)
            return false;
        to[length++] = c;
    }
    to[length] = '\0';
    return true;
}

enum form_step form_next(const char **at, struct form_field *field)
{
    const char *form = *at;
    size_t n = strcspn(form, "&\r\n"), n_name = strcspn(form, "=&\r\n");
    size_t n_value = n > n_name ? n - n_name - 1 : 0;

    if (*form == '\0' || strchr("\r\n", *form) != NULL)
        return FORM_END;
    *at = form + n + (form[n] == '&');
    if (!decode(form, n_name, field->name, sizeof field->name))
        field->name[0] = '\0';
    return decode(form + n - n_value, n_value, field->value, sizeof field->value)
               ? FORM_FIELD
               : FORM_BAD;
}
