/* Pieces of the page. */
#include "router/console/html.h"

#include <criterion/criterion.h>

#include "core/check.h"

static struct text out;

static void make(void)
{
    text_init(&out, 4096);
}

static void clear(void)
{
    text_clear(&out);
}

TestSuite(html, .init = make, .fini = clear, .timeout = 10);

static void expect(const char *wanted)
{
    cr_expect_str_eq(text_get(&out), wanted);
    text_clear(&out);
}

Test(html, no_text_is_markup)
{
    html_escape(&out, "<a href=\"x\" title='y'>&amp;</a>");
    expect("&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;amp;&lt;/a&gt;");
    html_cell(&out, "<");
    expect("<td>&lt;</td>");
    html_number(&out, UINT64_MAX);
    expect("<td class=n>18446744073709551615</td>");
}

Test(html, counts_bytes_in_fitting_units)
{
    static const struct {
        uint64_t bytes;
        const char *shown;
    } examples[] = {
        {0, "<td class=n>0 B</td>"},
        {1023, "<td class=n>1023 B</td>"},
        {1024, "<td class=n>1.0 kB</td>"},
        {1048576, "<td class=n>1.0 MB</td>"},
        {5ull << 30, "<td class=n>5.0 GB</td>"},
        {5ull << 40, "<td class=n>5.0 TB</td>"},
        {UINT64_MAX, "<td class=n>16777216.0 TB</td>"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        html_bytes(&out, examples[i].bytes);
        expect(examples[i].shown);
    }
}

Test(html, says_times_in_fitting_units)
{
    html_add_microseconds(&out, 999);
    expect("999 &micro;s");
    html_add_microseconds(&out, 1500);
    expect("1.5 ms");
    html_add_microseconds(&out, 123456);
    expect("123 ms");
    html_add_microseconds(&out, 61000000);
    expect("61.0 s");
    html_add_seconds(&out, 59);
    expect("59 s");
    html_add_seconds(&out, 61);
    expect("1 min 1 s");
    html_add_seconds(&out, 3660);
    expect("1 h 1 min");
    html_add_seconds(&out, 90000);
    expect("1 d 1 h");
}
