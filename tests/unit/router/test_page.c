/* The page for people, of a picture made by hand. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "router/console/views.h"
#include "tests/lib/picture.h"

static struct picture picture;
static struct text page;

static void make(void)
{
    text_init(&page, 1 << 20);
    picture_make(&picture);
}

static void clear(void)
{
    text_clear(&page);
}

TestSuite(page, .init = make, .fini = clear, .timeout = 10);

static void print(void)
{
    text_clear(&page);
    view_page(&picture.overview, &page);
    cr_assert_not(page.overflowed);
}

static void expect(const char *wanted)
{
    cr_expect_not_null(strstr(text_get(&page), wanted), "the page does not say: %s",
                       wanted);
}

static void expect_not(const char *unwanted)
{
    cr_expect_null(strstr(text_get(&page), unwanted), "the page says: %s", unwanted);
}

/* Every element that is opened is closed, but for those of HTML that may stay open. */
static void expect_balance(const char *element)
{
    char opening[32], closing[32];
    int depth = 0;

    snprintf(opening, sizeof opening, "<%s", element);
    snprintf(closing, sizeof closing, "</%s>", element);
    for (const char *at = text_get(&page); (at = strchr(at, '<')) != NULL; at++) {
        if (strncmp(at, opening, strlen(opening)) == 0 &&
            !isalnum((unsigned char)at[strlen(opening)]))
            depth++;
        depth -= strncmp(at, closing, strlen(closing)) == 0;
        cr_assert(depth == 0 || depth == 1, "<%s>", element);
    }
    cr_expect_eq(depth, 0, "<%s>", element);
}

Test(page, is_whole_html_that_loads_nothing)
{
    static const char *const elements[] = {"html", "head", "style", "title", "body",
                                           "h1",   "h2",   "p",     "div",   "table",
                                           "tr",   "td",   "b"};

    print();
    cr_expect_eq(strncmp(text_get(&page), "<!doctype html>", 15), 0);
    for (size_t i = 0; i < COUNT_OF(elements); i++)
        expect_balance(elements[i]);
    expect_not("<script");
    expect_not("src=");
    expect_not("href=");
    expect_not("://");
    expect_not("url(");
    expect("prefers-color-scheme:dark");
}

Test(page, shows_a_pool_that_has_no_role_of_its_own)
{
    picture.settings[1].to = NULL;
    picture.settings[1].role = ROLE_DEFAULT;
    picture.settings[1].check_uri = picture_text("");
    print();
    expect(" leads to what each line says of [databases].");
}

Test(page, shows_holds_and_switchovers)
{
    struct overview_cluster clusters[2] = {
        {.name = "other", .is_held = true, .present = {.sign = "of another"}},
        {.name = "main",
         .is_held = true,
         .has_last = true,
         .present = {.held_ms = 99000, .sign = "POST /hold <from> n1"},
         .last = {.outcome = SWITCHOVER_CHANGED,
                  .began_at_s = 60,
                  .held_ms = 1000,
                  .ended_ms = 2750,
                  .from = "n1",
                  .to = "n<2",
                  .sign = "SWITCHOVER by alice",
                  .n_held = 12,
                  .n_lost = 3,
                  .longest_wait_ms = 1700}}};

    picture.overview.clusters = clusters;
    picture.overview.n_clusters = 2;
    print();
    expect(
        "<p class=DRAIN>Clients are held since 1.5 s: POST /hold &lt;from&gt; n1.</p>");
    expect(
        "<p>Last switchover, 1970-01-01 00:01:00 UTC: changed, from <b>n1</b> to "
        "<b>n&lt;2</b>, 1.750 s; 12 clients held, 1.700 s at most; 3 transactions lost "
        "(SWITCHOVER by alice).</p>");
    expect_not("of another");
    expect_balance("p");
    clusters[1].is_held = clusters[1].has_last = false;
    print();
    expect_not("held since");
    expect_not("Last switchover");
}

Test(page, shows_the_process)
{
    print();
    expect("up 1 d 2 h 3 min 4 s");
    expect("82 of 1000 clients, 4 waiting for a place");
}

Test(page, shows_each_listener_and_where_it_leads)
{
    picture.settings[1].check_uri = picture_text("/sync");
    print();
    expect("<h2>rw</h2>");
    expect("*:5000 leads to primary of main. 43 clients, 47 at most, 4711 since start");
    expect("<h2>ro</h2>");
    expect("*:5001 leads to /sync of main");
}

Test(page, shows_each_node)
{
    picture.servers[0][0].tally = (struct tally){.sessions_now = 21,
                                                 .sessions_max = 22,
                                                 .sessions_total = 23,
                                                 .bytes_in = 512,
                                                 .bytes_out = 1536,
                                                 .connect_errors = 24};
    print();
    expect("<td>n1</td><td>127.0.0.1:5432</td><td>primary</td><td class=UP>UP</td>"
           "<td>200 running primary</td><td>1.5 s ago, 11 ms</td><td class=n>3</td>"
           "<td class=n>-</td><td class=n>21</td><td class=n>22</td><td class=n>23</td>"
           "<td class=n>512 B</td><td class=n>1.5 kB</td><td class=n>24</td></tr>");
    expect("<td>n3</td><td>127.0.0.1:5434</td><td>replica</td>");
    expect("<td class=n>3.0 MB</td>");
}

Test(page, shows_what_is_not_known)
{
    picture.servers[0][0].report.node.n_addresses = 0;
    picture.servers[0][0].report.checked_at_ms = 0;
    picture.servers[0][0].report.node.is_up = false;
    picture.servers[0][0].report.node.role = NODE_UNKNOWN;
    print();
    expect("<td>n1</td><td>not resolved</td><td>unknown</td><td class=DOWN>DOWN</td>");
    expect("<td>never</td>");
}

Test(page, shows_the_primary_or_why_there_is_none)
{
    picture.cluster.primary = 1;
    print();
    expect("Cluster <b>main</b>: the primary is <b>n2</b>.");
    picture.cluster.primary = -1;
    strcpy(picture.cluster.why_no_primary, "two nodes claim to be it");
    print();
    expect("Cluster <b>main</b>: two nodes claim to be it.");
}

Test(page, shows_each_thread)
{
    print();
    expect("<td>control</td><td class=n>-</td><td class=n>-</td><td class=n>1.9</td>");
    expect("<td>worker-0</td><td class=n>61</td><td class=n>0</td><td class=n>0.0</td>");
    expect("<td>worker-1</td><td class=n>67</td><td class=n>71</td><td class=n>7.3</td>");
    expect_not("worker-2");
}

Test(page, takes_no_markup_from_names_and_answers)
{
    static const char evil[] = "<script>alert(\"x\")</script>&";

    picture.settings[0].name = picture_text(evil);
    picture.settings[1].check_uri = picture_text(evil);
    picture.binds[0].host = picture_text(evil);
    picture.cluster.name = picture_text(evil);
    picture.cluster_config.name = picture_text(evil);
    picture.cluster.primary = -1;
    strcpy(picture.cluster.why_no_primary, evil);
    strcpy(picture.servers[0][0].report.node.name, evil);
    strcpy(picture.servers[0][0].report.said, evil);
    print();
    expect_not("<script");
    expect("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;");
}

Test(page, counts_bytes_in_fitting_units)
{
    static const struct {
        uint64_t bytes;
        const char *shown;
    } examples[] = {
        {0, ">0 B<"},
        {1023, ">1023 B<"},
        {1024, ">1.0 kB<"},
        {1048576, ">1.0 MB<"},
        {5ull << 30, ">5.0 GB<"},
        {5ull << 40, ">5.0 TB<"},
        {UINT64_MAX, ">16777216.0 TB<"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        picture.servers[0][0].tally.bytes_in = examples[i].bytes;
        print();
        expect(examples[i].shown);
    }
}
