#include "wire/base64.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(base64, .timeout = 10);

/* RFC 4648, 10, and what SCRAM writes. */
static const struct {
    const char *bytes;
    const char *text;
} vectors[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"n,,", "biws"},
    {"y,,", "eSws"},
    {"\xff\xef\xbe\xfb", "/++++w=="},
};

Test(base64, writes_what_the_rfc_writes)
{
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        size_t n = strlen(vectors[i].bytes);
        char text[16] = "................";

        cr_expect_eq(base64_write((const uint8_t *)vectors[i].bytes, n, text),
                     strlen(vectors[i].text));
        cr_expect_eq(strlen(vectors[i].text), BASE64_LENGTH(n));
        cr_expect_eq(memcmp(text, vectors[i].text, strlen(vectors[i].text)), 0);
        cr_expect_eq(text[BASE64_LENGTH(n)], '.', "nothing behind it");
    }
}

/* Reads from memory and into memory that end where they end. */
static bool read_exactly(const char *text, size_t length, uint8_t *bytes, size_t max,
                         size_t *n)
{
    char *text_copy = malloc(length + 1);
    uint8_t *bytes_copy = malloc(max > 0 ? max : 1);
    bool ok;

    memcpy(text_copy + 1, text, length);
    memset(bytes_copy, 0xaa, max);
    ok = base64_read(text_copy + 1, length, bytes_copy, max, n);
    if (max > 0)
        memcpy(bytes, bytes_copy, max);
    free(text_copy);
    free(bytes_copy);
    return ok;
}

Test(base64, reads_what_the_rfc_writes_into_just_enough_room)
{
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        size_t wanted = strlen(vectors[i].bytes), n = 99;
        uint8_t bytes[16];

        cr_assert(
            read_exactly(vectors[i].text, strlen(vectors[i].text), bytes, wanted, &n));
        cr_expect_eq(n, wanted);
        cr_expect_eq(memcmp(bytes, vectors[i].bytes, n), 0);
        if (wanted == 0)
            continue;
        n = 99;
        cr_expect_not(read_exactly(vectors[i].text, strlen(vectors[i].text), bytes,
                                   wanted - 1, &n));
        cr_expect_eq(n, 99);
    }
}

Test(base64, reads_back_what_it_writes_at_every_length)
{
    uint8_t bytes[100], back[100];
    char text[BASE64_LENGTH(100)];

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 200);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        size_t length = base64_write(bytes, n, text), n_back = 999;

        cr_assert_eq(length, BASE64_LENGTH(n));
        cr_assert(read_exactly(text, length, back, n, &n_back));
        cr_assert_eq(n_back, n);
        cr_assert_eq(memcmp(back, bytes, n), 0);
    }
}

#define TEXT_OF(text) (text), sizeof(text) - 1

Test(base64, refuses_what_is_not_canonical)
{
    static const struct {
        const char *text;
        size_t length;
    } wrong[] = {
        {TEXT_OF("Z")},          {TEXT_OF("Zg")},           {TEXT_OF("Zg=")},
        {TEXT_OF("Zm9vY")},      {TEXT_OF("Zh==")},         {TEXT_OF("Zn==")},
        {TEXT_OF("Zm9=")},       {TEXT_OF("Zm+=")},         {TEXT_OF("Z===")},
        {TEXT_OF("====")},       {TEXT_OF("=Zg=")},         {TEXT_OF("Zg==Zg==")},
        {TEXT_OF("Zm8=Zm8=")},   {TEXT_OF("Zm9v\n")},       {TEXT_OF("Zm 9v===")},
        {TEXT_OF(" Zm9")},       {TEXT_OF("Zm9v\r\n\r\n")}, {TEXT_OF("Zm-_")},
        {TEXT_OF("Zm9\0")},      {TEXT_OF("\0\0\0\0")},     {TEXT_OF("Zm9\xe9")},
        {TEXT_OF("Zm\xff\xff")}, {TEXT_OF("Zg=\0")},        {TEXT_OF("Z=9v")},
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        uint8_t bytes[16];
        size_t n = 99;

        cr_expect_not(
            read_exactly(wrong[i].text, wrong[i].length, bytes, sizeof bytes, &n), "%s",
            wrong[i].text);
        cr_expect_eq(n, 99);
        cr_expect_eq(bytes[0], 0xaa, "nothing was written");
    }
}

Test(base64, every_byte_in_every_place_is_a_digit_or_refused)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t place = 0; place < 4; place++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            char text[] = "AAAAAAAA";
            uint8_t bytes[6];
            bool is_digit = byte != 0 && strchr(digits, (int)byte) != NULL;
            size_t n;

            text[place] = (char)byte;
            cr_assert_eq(read_exactly(text, 8, bytes, 6, &n), is_digit, "%u at %zu", byte,
                         place);
        }
    }
}
