#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/ini.h"
#include "core/memory.h"
#include "core/text.h"

/* What a reading found, as text: "3[section]", "4 name=<value>", "5!mistake". */
static struct text found;
static char folder[64];

static enum ini_lines on_section(void *arg, const char *header, struct place place)
{
    (void)arg;
    text_addf(&found, "%u[%s]\n", place.line, header == NULL ? "?" : header);
    if (header != NULL && strcmp(header, "pgbouncer") == 0)
        return INI_TO_THE_END;
    if (header != NULL && strcmp(header, "databases") == 0)
        return INI_OWN_NAMES;
    return INI_COMMENTS;
}

static void on_setting(void *arg, const char *name, const char *value, struct place place)
{
    const char *slash = strrchr(place.source, '/');

    (void)arg;
    if (slash != NULL)
        text_addf(&found, "%s:", slash + 1);
    text_addf(&found, "%u %s=<%s>\n", place.line, name, value);
}

static void on_mistake(void *arg, struct place place, const char *what)
{
    (void)arg;
    text_addf(&found, "%u!%s\n", place.line, what);
}

static const struct ini_handler handler = {
    .on_section = on_section, .on_setting = on_setting, .on_mistake = on_mistake};

static const char *read_text(const char *text)
{
    struct ini ini = {0};

    text_clear(&found);
    text_init(&found, 1 << 22);
    cr_assert(ini_read_text(&ini, "test", text, &handler));
    ini_clear(&ini);
    return text_get(&found);
}

static const char *path_of(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

static const char *read_file(const char *name)
{
    struct ini ini = {0};
    char path[128];

    text_clear(&found);
    text_init(&found, 1 << 22);
    cr_assert(ini_read_file(&ini, path_of(name, path), &handler));
    ini_clear(&ini);
    return text_get(&found);
}

static void write_bytes(const char *name, const char *bytes, size_t length)
{
    char path[128];
    FILE *file = fopen(path_of(name, path), "w");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, length, file), length);
    cr_assert_eq(fclose(file), 0);
}

static void write_file(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static void make_folder(void)
{
    char path[128];

    strcpy(folder, "/tmp/test_ini.XXXXXX");
    if (mkdtemp(folder) == NULL || mkdir(path_of("below", path), 0700) != 0)
        abort();
}

static void remove_folder(void)
{
    static const char *const names[] = {"a.ini",       "b.ini",       "c.ini",
                                        "below/a.ini", "below/b.ini", "below"};
    char path[128];

    text_clear(&found);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        remove(path_of(names[i], path));
    for (int i = 0; i < 12; i++) {
        snprintf(path, sizeof path, "%s/%d.ini", folder, i);
        remove(path);
    }
    rmdir(folder);
}

TestSuite(ini, .init = make_folder, .fini = remove_folder, .timeout = 20);

Test(ini, finds_sections_settings_and_comments)
{
    cr_expect_str_eq(read_text("; one\n"
                               "# two\n"
                               "\n"
                               "[pgrouter]\n"
                               "a = 1\n"
                               "b=2\n"
                               "  c  =  two words  \n"
                               "d =\n"
                               "[ cluster  main ] ; why\n"
                               "[stats]# why\n"
                               "e = x"),
                     "4[pgrouter]\n"
                     "5 a=<1>\n"
                     "6 b=<2>\n"
                     "7 c=<two words>\n"
                     "8 d=<>\n"
                     "9[cluster  main]\n"
                     "10[stats]\n"
                     "11 e=<x>\n");
}

Test(ini, reads_nothing_from_nothing)
{
    cr_expect_str_eq(read_text(""), "");
    cr_expect_str_eq(read_text("\n\n \t \n;"), "");
}

/* inih would take the indented line for a continuation of the one above. */
Test(ini, takes_an_indented_line_for_a_line)
{
    cr_expect_str_eq(read_text("[pgbouncer]\na = 1\n  b = 2\n\t\tc = 3\n   [x]\n  ; d\n"),
                     "1[pgbouncer]\n2 a=<1>\n3 b=<2>\n4 c=<3>\n5[x]\n");
}

/* inih would cut the value there. */
Test(ini, keeps_semicolons_in_values_that_run_to_the_end_of_the_line)
{
    cr_expect_str_eq(read_text("[pgbouncer]\n"
                               "a = x ; y\n"
                               "b = ;\n"
                               "c = \"x ; y\"\n"
                               "d = ' \n"
                               "e = x;y ;;z # q\n"),
                     "1[pgbouncer]\n"
                     "2 a=<x ; y>\n"
                     "3 b=<;>\n"
                     "4 c=<\"x ; y\">\n"
                     "5 d=<'>\n"
                     "6 e=<x;y ;;z # q>\n");
}

/* inih would cut the line after 200 bytes. */
Test(ini, reads_lines_of_any_length)
{
    static const size_t lengths[] = {90,  96,  97,  98,  99,   180,   190,    194,    195,
                                     196, 197, 198, 199, 200,  201,   202,    203,    256,
                                     292, 293, 294, 400, 1000, 10000, 100000, 1000000};

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        /* Blanks, ';', ':' and '=' at every place that a piece may end. */
        static const char pattern[] = "a ; b:c=d#[e] \t'f\" %";
        struct text ini, wanted, value;

        text_init(&ini, 1 << 21);
        text_init(&wanted, 1 << 21);
        text_init(&value, 1 << 21);
        for (size_t n = 0; n < lengths[i]; n++)
            text_add_n(&value, &pattern[(n * 7 + i) % (sizeof pattern - 1)], 1);
        text_addf(&ini, "[pgbouncer]\nlong = <%s>\nnext = 1\n", text_get(&value));
        text_addf(&wanted, "1[pgbouncer]\n2 long=<<%s>>\n3 next=<1>\n", text_get(&value));
        cr_expect_str_eq(read_text(text_get(&ini)), text_get(&wanted), "%zu bytes",
                         lengths[i]);
        text_clear(&ini);
        text_clear(&wanted);
        text_clear(&value);
    }
}

Test(ini, keeps_colons_that_inih_would_take_for_an_equals_sign)
{
    cr_expect_str_eq(read_text("[x]\na:b = c\nd : e = f\n"),
                     "1[x]\n2 a:b=<c>\n3 d : e=<f>\n");
}

Test(ini, reads_names_of_the_users_own_with_and_without_quotes)
{
    cr_expect_str_eq(read_text("[databases]\n"
                               "* = host=x\n"
                               "a-b.c_D9 = host=x ; y # z\n"
                               "\"a b\" = 1\n"
                               "  \"a\"\"=;b: c\"  =  2  \n"
                               "'it''s' = 3\n"
                               "\"it's\"=4\n"
                               "\"[x]\" = 5\n"
                               "\"#x\" = 6\n"
                               "\"%include x\" = 7\n"
                               "\"\xc3\xa4\" = 8\n"
                               "e =\n"
                               "f = 'x ; y'\n"
                               "[pgbouncer]\n"
                               "\"a\" = 9\n"),
                     "1[databases]\n"
                     "2 *=<host=x>\n"
                     "3 a-b.c_D9=<host=x ; y # z>\n"
                     "4 a b=<1>\n"
                     "5 a\"=;b: c=<2>\n"
                     "6 it's=<3>\n"
                     "7 it's=<4>\n"
                     "8 [x]=<5>\n"
                     "9 #x=<6>\n"
                     "10 %include x=<7>\n"
                     "11 \xc3\xa4=<8>\n"
                     "12 e=<>\n"
                     "13 f=<'x ; y'>\n"
                     "14[pgbouncer]\n"
                     "15 \"a\"=<9>\n");
}

Test(ini, says_what_is_wrong_with_a_name_of_the_users_own)
{
    cr_expect_str_eq(
        read_text("[databases]\n"
                  "a b = 1\n"
                  "\xc3\xa4 = 1\n"
                  "a:b = 1\n"
                  "\"a = 1\n"
                  "\"a\" b = 1\n"
                  "\"a\"\n"
                  "\"\" = 1\n"
                  "= 1\n"
                  "a\n"),
        "1[databases]\n"
        "2!a name with other characters than letters, digits and _ . - *; expected it in "
        "double quotes\n"
        "3!a name with other characters than letters, digits and _ . - *; expected it in "
        "double quotes\n"
        "4!a name with other characters than letters, digits and _ . - *; expected it in "
        "double quotes\n"
        "5!the closing quote of the name is missing (a quote inside is written twice)\n"
        "6!text behind the name's closing quote; expected \"name\" = value\n"
        "7!expected name = value, [section] or a comment\n"
        "8!nothing in front of '='; expected name = value\n"
        "9!nothing in front of '='; expected name = value\n"
        "10!expected name = value, [section] or a comment\n");
}

Test(ini, keeps_names_that_inih_would_cut)
{
    char name[101], text[400], wanted[400];

    memset(name, 'n', 100);
    name[100] = '\0';
    snprintf(text, sizeof text, "[%s]\n%s = 1\n", name, name);
    snprintf(wanted, sizeof wanted, "1[%s]\n2 %s=<1>\n", name, name);
    cr_expect_str_eq(read_text(text), wanted);
}

Test(ini, counts_lines_behind_a_long_one)
{
    struct text ini;

    text_init(&ini, 10000);
    text_add(&ini, "[x]\na = ");
    for (int i = 0; i < 1000; i++)
        text_add(&ini, "y");
    text_add(&ini, "\noops\nb = 1\n");
    read_text(text_get(&ini));
    cr_expect_not_null(strstr(text_get(&found),
                              "\n3!expected name = value, [section] or a comment\n"
                              "4 b=<1>\n"));
    text_clear(&ini);
}

Test(ini, ends_a_value_at_a_semicolon_behind_white_space_where_comments_are_taken)
{
    cr_expect_str_eq(read_text("[x]\n"
                               "a = 1 ; one\n"
                               "b = 1;2\n"
                               "c = 1\t;2\n"
                               "d = ; nothing\n"
                               "e =;x\n"
                               "f = 1 # two\n"
                               "g = 1;2 ;3 ;4\n"
                               "h = it's ; 5\n"),
                     "1[x]\n"
                     "2 a=<1>\n"
                     "3 b=<1;2>\n"
                     "4 c=<1>\n"
                     "5 d=<>\n"
                     "6 e=<;x>\n"
                     "7 f=<1 # two>\n"
                     "8 g=<1;2>\n"
                     "9 h=<it's>\n");
}

Test(ini, keeps_what_stands_in_quotes_where_comments_are_taken)
{
    cr_expect_str_eq(read_text("[x]\n"
                               "a = \"x ; y\"\n"
                               "b = '  x;'  ; comment\n"
                               "c = \"say \"\"so\"\"\"\n"
                               "d = 'it''s'\n"
                               "e = \"\"\n"
                               "f = \"it's\";\n"),
                     "1[x]\n"
                     "2 a=<x ; y>\n"
                     "3 b=<  x;>\n"
                     "4 c=<say \"so\">\n"
                     "5 d=<it's>\n"
                     "6 e=<>\n"
                     "7 f=<it's>\n");
}

Test(ini, reports_each_line_that_it_cannot_read_and_goes_on)
{
    static const char quotes[] = "(a quote inside is written twice)";
    char wanted[1000];

    snprintf(wanted, sizeof wanted,
             "1!expected name = value, [section] or a comment\n"
             "2!nothing in front of '='; expected name = value\n"
             "3[x]\n"
             "4!the closing quote is missing %s\n"
             "5!the closing quote is missing %s\n"
             "6!the closing quote is missing %s\n"
             "7!text behind the closing quote %s\n"
             "8!a control character; expected text\n"
             "9!a control character; expected text\n"
             "10!a ']' is missing; expected [section]\n10[?]\n"
             "11!text behind a section's header; expected the end of the line\n11[?]\n"
             "12!a line that begins with '%%'; expected %%include FILE\n"
             "13!a line that begins with '%%'; expected %%include FILE\n"
             "14!%%include without a name; expected %%include FILE\n"
             "15!cannot include 'x.ini': only a file can include another\n"
             "16 b=<1>\n",
             quotes, quotes, quotes, quotes);
    cr_expect_str_eq(read_text("secret\n"
                               " = secret\n"
                               "[x]\n"
                               "a = \"secret\n"
                               "a = 'secret\"\"\n"
                               "a = \"secret\"\"\n"
                               "a = \"sec\"ret\n"
                               "a = sec\x01ret\n"
                               "a = sec\x7fret\n"
                               "[secret\n"
                               "[y] a = secret\n"
                               "%include_dir x\n"
                               "%\n"
                               "%include\n"
                               "%include x.ini\n"
                               "b = 1\n"),
                     wanted);
}

Test(ini, refuses_a_name_that_leaves_no_room_for_its_value)
{
    char text[200];

    memset(text, 'n', 101);
    snprintf(text + 101, sizeof text - 101, " = 1\n");
    cr_expect_str_eq(
        read_text(text),
        "1!a setting's name of more than 100 bytes; expected name = value\n");
}

Test(ini, reads_files_as_windows_writes_them)
{
    cr_expect_str_eq(read_text("\xef\xbb\xbf[x]\r\na = 1\r\n\r\nb = \"2\"\r\n"),
                     "1[x]\n2 a=<1>\n4 b=<2>\n");
}

Test(ini, reads_text_beyond_ascii)
{
    cr_expect_str_eq(read_text("[x]\nä = ö \xc3\xa0\n"), "1[x]\n2 ä=<ö \xc3\xa0>\n");
}

Test(ini, includes_files_as_if_they_stood_there)
{
    write_file("a.ini", "[x]\n1 = a\n%include below/a.ini\n4 = a\n%include b.ini");
    write_file("below/a.ini", "2 = b\n%include b.ini\n[y]");
    write_file("below/b.ini", "3 = c");
    write_file("b.ini", "5 = d");
    cr_expect_str_eq(read_file("a.ini"), "1[x]\n"
                                         "a.ini:2 1=<a>\n"
                                         "a.ini:1 2=<b>\n"
                                         "b.ini:1 3=<c>\n"
                                         "3[y]\n"
                                         "a.ini:4 4=<a>\n"
                                         "b.ini:1 5=<d>\n");
}

Test(ini, includes_from_the_working_directory_what_is_not_beside_the_file)
{
    write_file("below/a.ini", "%include b.ini\n%include c.ini\n");
    write_file("b.ini", "1 = working directory\n");
    write_file("c.ini", "2 = working directory\n");
    write_file("below/b.ini", "1 = beside\n");
    cr_assert_eq(chdir(folder), 0);
    cr_expect_str_eq(read_file("below/a.ini"), "b.ini:1 1=<beside>\n"
                                               "1 2=<working directory>\n");
}

Test(ini, includes_by_an_absolute_name)
{
    char text[256], path[128];

    snprintf(text, sizeof text, "%%include   %s  \n", path_of("b.ini", path));
    write_file("below/a.ini", text);
    write_file("b.ini", "1 = b\n");
    cr_expect_str_eq(read_file("below/a.ini"), "b.ini:1 1=<b>\n");
}

Test(ini, reports_what_cannot_be_included_and_goes_on)
{
    char path[128];

    cr_assert_eq(mkfifo(path_of("c.ini", path), 0600), 0);
    write_bytes("b.ini", "a = 1\0\n", 7);
    write_file("a.ini", "%include nowhere.ini\n"
                        "%include below\n"
                        "%include c.ini\n"
                        "%include b.ini\n"
                        "%include a.ini\n"
                        "%include ./below/../a.ini\n"
                        "z = 1\n");
    cr_expect_str_eq(read_file("a.ini"),
                     "1!cannot include 'nowhere.ini': No such file or directory\n"
                     "2!cannot include 'below': not a regular file\n"
                     "3!cannot include 'c.ini': not a regular file\n"
                     "4!cannot include 'b.ini': not a text file: it holds a zero byte\n"
                     "5!cannot include 'a.ini': it includes itself\n"
                     "6!cannot include './below/../a.ini': it includes itself\n"
                     "a.ini:7 z=<1>\n");
}

Test(ini, includes_ten_files_deep_and_no_deeper)
{
    for (int i = 0; i < 12; i++) {
        char name[16], text[64];

        snprintf(name, sizeof name, "%d.ini", i);
        snprintf(text, sizeof text, "%d = in\n%%include %d.ini\n", i, i + 1);
        write_file(name, text);
    }
    read_file("0.ini");
    cr_expect_not_null(strstr(text_get(&found), "9.ini:1 9=<in>\n"
                                                "2!cannot include '10.ini': files may "
                                                "include each other 10 deep at most\n"));
    cr_expect_null(strstr(text_get(&found), "10=<in>"));
}

Test(ini, includes_a_thousand_files_and_no_more)
{
    struct text text;

    write_file("b.ini", "");
    text_init(&text, 1 << 20);
    for (int i = 0; i < 1001; i++)
        text_add(&text, "%include b.ini\n");
    write_file("a.ini", text_get(&text));
    cr_expect_str_eq(read_file("a.ini"),
                     "1000!cannot include 'b.ini': 1000 files at most\n"
                     "1001!cannot include 'b.ini': 1000 files at most\n");
    text_clear(&text);
}

Test(ini, reports_a_file_that_cannot_be_read)
{
    cr_expect_str_eq(read_file("a.ini"), "0!cannot be read: No such file or directory\n");
    cr_expect_str_eq(read_file("below"), "0!cannot be read: Is a directory\n");
    write_bytes("a.ini", "\0", 1);
    cr_expect_str_eq(read_file("a.ini"),
                     "0!cannot be read: not a text file: it holds a zero byte\n");
}

Test(ini, reads_nothing_of_a_file_with_a_zero_byte_far_behind)
{
    char *bytes = malloc(100000);

    cr_assert_not_null(bytes);
    for (size_t i = 0; i < 100000; i++)
        bytes[i] = "a = 1\n"[i % 6];
    bytes[99999] = '\0';
    write_bytes("a.ini", bytes, 100000);
    cr_expect_str_eq(read_file("a.ini"),
                     "0!cannot be read: not a text file: it holds a zero byte\n");
    free(bytes);
}

Test(ini, reads_a_file_of_16_mb_and_no_larger)
{
    const size_t size = (size_t)16 << 20;
    char *bytes = malloc(size + 1);

    cr_assert_not_null(bytes);
    memset(bytes, '\n', size + 1);
    for (size_t i = 0; i < 5; i++)
        bytes[size - 5 + i] = "a = 1"[i];
    write_bytes("a.ini", bytes, size);
    cr_expect_str_eq(read_file("a.ini"), "a.ini:16777212 a=<1>\n");
    write_bytes("a.ini", bytes, size + 1);
    cr_expect_str_eq(read_file("a.ini"), "0!cannot be read: larger than 16 MB\n");
    free(bytes);
}

Test(ini, survives_each_allocation_failure)
{
    char path[128], text[1000], value[500];
    bool has_failed = true;

    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    snprintf(text, sizeof text,
             "[x]\na = 1\n%%include below/a.ini\n%%include nowhere.ini\nb = %s\n", value);
    write_file("a.ini", text);
    write_file("below/a.ini", "c = 3\n");
    path_of("a.ini", path);
    for (unsigned nth = 1; has_failed; nth++) {
        struct ini ini = {0};
        bool has_read;

        text_clear(&found);
        text_init(&found, 10000);
        text_add(&found, ""); /* allocates here what the handlers need */
        memory_fail_at = nth;
        has_read = ini_read_file(&ini, path, &handler);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_expect_eq(has_read, !has_failed || found.overflowed, "allocation %u", nth);
        ini_clear(&ini);
    }
    snprintf(text, sizeof text,
             "1[x]\na.ini:2 a=<1>\na.ini:1 c=<3>\n"
             "4!cannot include 'nowhere.ini': No such file or directory\n"
             "a.ini:5 b=<%s>\n",
             value);
    cr_expect_str_eq(text_get(&found), text);
}
