#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/file.h"
#include "config/users_file.h"
#include "core/memory.h"

static struct text errors;
static struct user_secrets secrets;

static void clear_all(void)
{
    text_clear(&errors);
    users_file_clear(&secrets);
}

TestSuite(users_file, .fini = clear_all, .timeout = 20);

static enum users_file_result parse(const char *text)
{
    char *copy = memory_text(text);
    enum users_file_result result;

    cr_assert_not_null(copy);
    clear_all();
    text_init(&errors, 10000);
    result = users_file_parse("users", copy, &secrets, &errors);
    memory_free(copy);
    return result;
}

static void expect_user(size_t index, const char *name, const char *secret)
{
    cr_assert_lt(index, secrets.n);
    cr_expect_str_eq(secrets.items[index].name, name);
    cr_expect_str_eq(secrets.items[index].secret, secret);
}

Test(users_file, reads_names_and_secrets_in_the_order_of_names)
{
    cr_expect_eq(parse("\"zoe\" \"secret\"\n"
                       "; a comment\n"
                       "\n"
                       "  \t; another\n"
                       "\t\"bob\"\t\t\"md5abc\" what follows\r\n"
                       "\"amy\" \"\"\n"
                       "\"it\"\"s\" \"\"\"x\"\"\"\"y\"\n"
                       "\"a b\" \"c d\"\n"
                       "\"\xc3\xa4\" \"\xff;#\" \"\" \"unread\"\n"
                       "\"last\" \"without a line's end\""),
                 USERS_FILE_OK);
    cr_assert_eq(secrets.n, 7);
    expect_user(0, "a b", "c d");
    expect_user(1, "amy", "");
    expect_user(2, "bob", "md5abc");
    expect_user(3, "it\"s", "\"x\"\"y");
    expect_user(4, "last", "without a line's end");
    expect_user(5, "zoe", "secret");
    expect_user(6, "\xc3\xa4", "\xff;#");
}

Test(users_file, may_be_empty_and_begin_with_a_byte_order_mark)
{
    cr_expect_eq(parse(""), USERS_FILE_OK);
    cr_expect_eq(secrets.n, 0);
    cr_expect_eq(parse("\n\n;x"), USERS_FILE_OK);
    cr_expect_eq(secrets.n, 0);
    cr_expect_eq(parse("\xef\xbb\xbf\"a\" \"b\""), USERS_FILE_OK);
    expect_user(0, "a", "b");
}

Test(users_file, goes_by_the_last_line_of_a_name)
{
    cr_expect_eq(
        parse("\"b\" \"1\"\n\"a\" \"1\"\n\"b\" \"2\"\n\"a\" \"2\"\n\"b\" \"3\"\n"),
        USERS_FILE_OK);
    cr_assert_eq(secrets.n, 2);
    expect_user(0, "a", "2");
    expect_user(1, "b", "3");
}

#define FORM "expected \"name\" \"secret\""
#define TWICE " (a quote inside is written twice)\n"

Test(users_file, reports_each_mistake_with_its_line_and_without_secrets)
{
    static const struct {
        const char *text;
        const char *errors;
    } examples[] = {
        {"bob \"Geheim\"\n", "users:1: " FORM TWICE},
        {"# comment\n", "users:1: " FORM TWICE},
        {"'bob' 'Geheim'\n", "users:1: " FORM TWICE},
        {"\"bob\n\"Geheim\"\n",
         "users:1: " FORM TWICE "users:2: no secret behind the name; " FORM TWICE},
        {"\n\"bob\"\n", "users:2: no secret behind the name; " FORM TWICE},
        {"\"bob\" Geheim\n", "users:1: no secret behind the name; " FORM TWICE},
        {"\"bob\" \"Geheim\n", "users:1: no secret behind the name; " FORM TWICE},
        {"\"bob\" \"Geheim\"\"\n", "users:1: no secret behind the name; " FORM TWICE},
        {"\"bob\", \"Geheim\"\n", "users:1: no blank behind the name; " FORM "\n"},
        {"\"\" \"Geheim\"\n", "users:1: a user without a name; " FORM "\n"},
        {"\"a\" \"b\"\nx\n\"c\" \"d\"\ny\n",
         "users:2: " FORM TWICE "users:4: " FORM TWICE},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        cr_expect_eq(parse(examples[i].text), USERS_FILE_BAD, "%s", examples[i].text);
        cr_expect_str_eq(text_get(&errors), examples[i].errors);
        cr_expect_eq(secrets.n, 0);
    }
}

Test(users_file, survives_each_allocation_failure)
{
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth++) {
        char text[] = "\"b\" \"1\"\n\"a\" \"1\"\n\"b\" \"2\"\n";
        enum users_file_result result;

        clear_all();
        text_init(&errors, 10000);
        memory_fail_at = nth;
        result = users_file_parse("users", text, &secrets, &errors);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_expect_eq(result, has_failed ? USERS_FILE_NO_MEMORY : USERS_FILE_OK);
        cr_expect_eq(secrets.n, has_failed ? 0 : 2);
    }
}

Test(users_file, reads_many_users)
{
    struct text text;

    text_init(&text, 1 << 24);
    for (unsigned i = 0; i < 50000; i++)
        text_addf(&text, "\"user%u\" \"secret%u\"\n", i * 7919 % 50000, i * 7919 % 50000);
    cr_expect_eq(parse(text_get(&text)), USERS_FILE_OK);
    cr_assert_eq(secrets.n, 50000);
    for (size_t i = 1; i < secrets.n; i++)
        cr_assert_lt(strcmp(secrets.items[i - 1].name, secrets.items[i].name), 0);
    expect_user(0, "user0", "secret0");
    text_clear(&text);
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 8;
}

/* Any bytes: it loads, or says why not; what it says holds nothing of a field. */
Test(users_file, survives_any_bytes)
{
    static const char bytes[] = "\"\"\"\"\"  \n\n;\t\rax\xff";
    unsigned state = 4711, n_loaded = 0;

    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t length = next_random(&state) % sizeof text;

        for (size_t i = 0; i < length; i++)
            text[i] = bytes[next_random(&state) % (sizeof bytes - 1)];
        text[length] = '\0';
        if (parse(text) == USERS_FILE_OK)
            n_loaded++;
        else
            cr_expect_gt(errors.length, 0);
        for (size_t i = 0; i < secrets.n; i++)
            cr_expect_neq(secrets.items[i].name[0], '\0');
    }
    cr_expect_gt(n_loaded, 1000);
    cr_expect_lt(n_loaded, 19000);
}

/* ---- files ---- */

static char path[] = "/tmp/test_users_file.XXXXXX";

static void write_file(const char *bytes, size_t n)
{
    int fd = mkstemp(path);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    cr_assert_eq(close(fd), 0);
}

static const char *why;

static enum users_file_result load(const char *name)
{
    clear_all();
    text_init(&errors, 10000);
    why = "";
    return users_file_load(name, &secrets, &errors, &why);
}

Test(users_file, is_read_from_a_file)
{
    write_file("\"a\" \"b\"\n", 8);
    cr_expect_eq(load(path), USERS_FILE_OK);
    expect_user(0, "a", "b");
    unlink(path);
}

Test(users_file, names_the_file_in_its_errors)
{
    char wanted[200];

    write_file("x\n", 2);
    cr_expect_eq(load(path), USERS_FILE_BAD);
    snprintf(wanted, sizeof wanted, "%s:1: " FORM TWICE, path);
    cr_expect_str_eq(text_get(&errors), wanted);
    unlink(path);
}

Test(users_file, says_why_a_file_cannot_be_read)
{
    cr_expect_eq(load("/nonexistent/users"), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "No such file or directory");
    cr_expect_eq(load("/"), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "not a regular file");
    cr_expect_eq(load("/dev/zero"), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "not a regular file");
    write_file("\"a\" \"b\0\"\n", 9);
    cr_expect_eq(load(path), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "not a text file: it holds a zero byte");
    unlink(path);
}

/* A pipe that nobody writes to would hold us up. */
Test(users_file, does_not_wait_for_a_pipe)
{
    char fifo[] = "/tmp/test_users_file_fifo.XXXXXX";

    cr_assert_not_null(mkdtemp(fifo));
    rmdir(fifo);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    cr_expect_eq(load(fifo), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "not a regular file");
    unlink(fifo);
}

Test(users_file, is_no_larger_than_16_megabytes)
{
    int fd;

    write_file("", 0);
    fd = open(path, O_WRONLY);
    cr_assert_geq(fd, 0);
    for (size_t n = 0; n <= FILE_MAX_BYTES; n += 4096) {
        static char blanks[4096];

        memset(blanks, ' ', sizeof blanks);
        cr_assert_eq(write(fd, blanks, sizeof blanks), (ssize_t)sizeof blanks);
    }
    close(fd);
    cr_expect_eq(load(path), USERS_FILE_UNREADABLE);
    cr_expect_str_eq(why, "larger than 16 MB");
    unlink(path);
}

Test(users_file, survives_each_allocation_failure_while_it_reads)
{
    bool has_failed = true;

    write_file("\"a\" \"b\"\n", 8);
    for (unsigned nth = 1; has_failed; nth++) {
        enum users_file_result result;

        clear_all();
        text_init(&errors, 10000);
        memory_fail_at = nth;
        result = users_file_load(path, &secrets, &errors, &why);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_expect_eq(result, has_failed ? USERS_FILE_NO_MEMORY : USERS_FILE_OK);
    }
    unlink(path);
}
