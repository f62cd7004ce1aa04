#include "config/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool file_read(int fd, struct text *text, const char **why)
{
    char chunk[16 * 1024];
    ssize_t n;

    text_add(text, "");
    while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        if (memchr(chunk, '\0', (size_t)n) != NULL) {
            *why = "not a text file: it holds a zero byte";
            return false;
        }
        if (text->max - text->length < (size_t)n) {
            *why = "larger than 16 MB";
            return false;
        }
        text_add_n(text, chunk, (size_t)n);
    }
    if (n < 0)
        *why = strerror(errno);
    return n == 0;
}
