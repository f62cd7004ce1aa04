/* config/describe.c - the settings' table for people: plain text and Markdown. */
#include "config/setting.h"

static const char *const notes[SECTION_KIND_COUNT] = {
    [SECTION_MAIN] = "The program as a whole. [pgbouncer] is the same section.",
    [SECTION_CLUSTER] =
        "PostgreSQL nodes that belong together. As many sections as there "
        "are clusters, each with a name of its own.",
    [SECTION_LISTENER] = "Addresses on which clients are served, and the nodes that they "
                         "are led to. At least one, each with a name of its own.",
    [SECTION_STATS] = "The stats page. Without this section there is none.",
    [SECTION_DATABASE] =
        "A line for each database that is pooled: NAME = setting=value setting=value ... "
        "The name * stands for every database that has no line. A name with other "
        "characters than letters, digits and _ . - stands in double quotes, a value with "
        "blanks in single ones; a quote inside is written twice.",
    [SECTION_USER] = "A line for each user with settings of its own, as in [databases].",
    [SECTION_PEER] = "A line for each process that shares our address, named by its "
                     "peer_id, as in [databases].",
};

static const char *applied_by(const struct setting *row)
{
    return row->restarts ? "restart" : "reload";
}

/* ---- plain text ---- */

static void add_plain_row(const struct setting *row, struct text *out)
{
    if (row->initial == NULL)
        text_addf(out, "\n%s (required)\n", row->name);
    else
        text_addf(out, "\n%s =%s%s\n", row->name, *row->initial == '\0' ? "" : " ",
                  row->initial);
    text_addf(out, "    %s\n    ", row->help);
    value_add_expected(&row->rule, out);
    text_addf(out, "; applied by a %s\n", applied_by(row));
    if (setting_no_effect(row) != NULL)
        text_addf(out, "    accepted without effect: %s\n", setting_no_effect(row));
}

static void add_plain_section(enum section_kind section, struct text *out)
{
    text_addf(out, "%s%s\n%s\n", out->length > 0 ? "\n\n" : "", setting_section(section),
              notes[section]);
}

/* ---- Markdown ---- */

static const char preface[] =
    "# Settings\n"
    "\n"
    "Made by `pgrouter --settings --markdown` from `config/keys.def`, which is the place "
    "to "
    "change it.\n"
    "\n"
    "A configuration is an ini file:\n"
    "\n"
    "- `name = value` stands below a `[section]`; blanks around both do not count, lines "
    "may be indented and of any length.\n"
    "- A line that begins with `;` or `#` is a comment. A `;` behind white space begins "
    "one behind a value or header too, but not behind a value in `[pgbouncer]`, "
    "`[databases]`, `[users]` and `[peers]`, where values run to the end of the line as "
    "PgBouncer has it.\n"
    "- A value in double or single quotes is taken as it is, blanks and `;` included; a "
    "quote inside is written twice. In `[pgbouncer]` quotes have no such meaning.\n"
    "- `%include FILE` reads another file in that place. A relative name counts from the "
    "folder of the file that includes it or, where there is none, from the working "
    "directory.\n"
    "- A setting stands once in a section. Every mistake in a file is reported with its "
    "line, and a file with a mistake is not used.\n";

/* Text in a table's cell, with what means something there made harmless. */
static void add_cell(struct text *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|' || *text == '*' || *text == '<' || *text == '[')
            text_add(out, "\\");
        text_add_n(out, text, 1);
    }
}

static void add_markdown_row(const struct setting *row, struct text *out)
{
    struct text expected;

    text_init(&expected, out->max);
    value_add_expected(&row->rule, &expected);
    text_addf(out, "| `%s` | ", row->name);
    if (row->initial == NULL)
        text_add(out, "required");
    else if (*row->initial != '\0')
        text_addf(out, "`%s`", row->initial);
    text_add(out, " | ");
    add_cell(out, text_get(&expected));
    text_addf(out, " | %s | ", applied_by(row));
    add_cell(out, row->help);
    if (setting_no_effect(row) != NULL) {
        text_add(out, "; accepted without effect: ");
        add_cell(out, setting_no_effect(row));
    }
    text_add(out, " |\n");
    text_clear(&expected);
}

static void add_markdown_section(enum section_kind section, struct text *out)
{
    text_addf(out,
              "\n## %s\n\n%s\n\n"
              "| setting | default | values | applied by | what it does |\n"
              "|---|---|---|---|---|\n",
              setting_section(section), notes[section]);
}

void setting_describe(const struct setting *rows, size_t n, struct text *out,
                      bool markdown)
{
    if (markdown)
        text_add(out, preface);
    for (size_t i = 0; i < n; i++) {
        bool is_first = i == 0 || rows[i].section != rows[i - 1].section;

        if (is_first && markdown)
            add_markdown_section(rows[i].section, out);
        else if (is_first)
            add_plain_section(rows[i].section, out);
        if (markdown)
            add_markdown_row(&rows[i], out);
        else
            add_plain_row(&rows[i], out);
    }
}
