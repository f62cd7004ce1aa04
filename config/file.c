#include "config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
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

static bool is_regular(int fd, const char **why)
{
    struct stat status;

    if (fstat(fd, &status) != 0) {
        *why = strerror(errno);
        return false;
    }
    *why = "not a regular file";
    return S_ISREG(status.st_mode);
}

bool file_load(const char *path, struct text *text, const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool is_read;

    if (fd < 0) {
        *why = strerror(errno);
        return false;
    }
    is_read = is_regular(fd, why) && file_read(fd, text, why);
    close(fd);
    return is_read;
}
