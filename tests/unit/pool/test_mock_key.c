#include "pool/mock_key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], id_file[96], tls_file[96];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_mock_key.XXXXXX");
    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(id_file, sizeof id_file, "%s/id", folder);
    snprintf(tls_file, sizeof tls_file, "%s/key", folder);
}

static void remove_folder(void)
{
    unlink(id_file);
    unlink(tls_file);
    rmdir(folder);
}

TestSuite(mock_key, .init = make_folder, .fini = remove_folder, .timeout = 20);

#define ID "0123456789abcdef0123456789abcdef\n"

struct made {
    enum mock_key_source source;
    uint8_t key[MOCK_KEY_BYTES];
};

static struct made make(const char *secret)
{
    struct made made = {0};

    made.source = mock_key_make(secret, id_file, tls_file, made.key);
    return made;
}

static void expect_same(struct made a, struct made b, bool is_same)
{
    cr_expect_eq(memcmp(a.key, b.key, sizeof a.key) == 0, is_same);
}

Test(mock_key, is_the_same_as_long_as_its_source_is)
{
    struct made of_machine, of_setting;

    write_file(id_file, ID);
    write_file(tls_file, "a key");
    of_machine = make("");
    cr_expect_eq(of_machine.source, MOCK_KEY_OF_MACHINE);
    expect_same(of_machine, make(""), true);
    write_file(tls_file, "another key");
    expect_same(of_machine, make(""), true);
    of_setting = make("a secret");
    cr_expect_eq(of_setting.source, MOCK_KEY_OF_SETTING);
    expect_same(of_setting, of_machine, false);
    expect_same(of_setting, make("another secret"), false);
    write_file(id_file, "1123456789abcdef0123456789abcdef\n");
    expect_same(of_machine, make(""), false);
    expect_same(of_setting, make("a secret"), true);
}

Test(mock_key, does_without_an_id_that_is_none)
{
    static const char *const ids[] = {"", "uninitialized\n", "0123456789abcdef\n",
                                      "00000000000000000000000000000000\n",
                                      "0123456789abcdef0123456789abcdeX\n"};

    write_file(tls_file, "a key");
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        struct made made;

        write_file(id_file, ids[i]);
        made = make("");
        cr_expect_eq(made.source, MOCK_KEY_OF_TLS, "%s", ids[i]);
        expect_same(made, make(""), true);
    }
}

Test(mock_key, is_left_to_chance_where_there_is_nothing)
{
    struct made made = make("");

    cr_expect_eq(made.source, MOCK_KEY_OF_CHANCE);
    expect_same(made, make(""), false);
    made.source = mock_key_make("", "", "", made.key);
    cr_expect_eq(made.source, MOCK_KEY_OF_CHANCE);
    write_file(tls_file, "a key");
    cr_expect_eq(make("").source, MOCK_KEY_OF_TLS);
    write_file(tls_file, "");
    cr_expect_eq(make("").source, MOCK_KEY_OF_CHANCE);
}
