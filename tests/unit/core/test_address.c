#include "core/address.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/fault.h"

TestSuite(address, .timeout = 10);

static struct address parsed(const char *host, uint16_t port)
{
    struct address address;

    cr_assert(address_parse(host, port, &address), "%s", host);
    return address;
}

Test(address, parses_and_prints_numbers)
{
    static const struct {
        const char *host;
        const char *printed;
        const char *host_printed;
    } examples[] = {
        {"127.0.0.1", "127.0.0.1:5432", "127.0.0.1"},
        {"255.255.255.255", "255.255.255.255:5432", "255.255.255.255"},
        {"::1", "[::1]:5432", "::1"},
        {"::", "[::]:5432", "::"},
        {"0123:4567:89ab:cdef:0123:4567:89ab:cdef",
         "[123:4567:89ab:cdef:123:4567:89ab:cdef]:5432",
         "123:4567:89ab:cdef:123:4567:89ab:cdef"},
        {"::ffff:10.1.2.3", "10.1.2.3:5432", "10.1.2.3"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct address address = parsed(examples[i].host, 5432);
        char text[ADDRESS_TEXT_MAX];

        cr_expect_str_eq(address_print(&address, text), examples[i].printed);
        cr_expect_str_eq(address_print_host(&address, text), examples[i].host_printed);
        cr_expect_eq(address_port(&address), 5432);
    }
}

Test(address, prints_the_highest_port)
{
    struct address address = parsed("255.255.255.255", 65535);
    char text[ADDRESS_TEXT_MAX];

    cr_expect_str_eq(address_print(&address, text), "255.255.255.255:65535");
}

Test(address, refuses_what_is_not_a_number)
{
    static const char *const hosts[] = {
        "",
        "localhost",
        "pg1.example.com",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4 ",
        " 1.2.3.4",
        "[::1]",
        ":::",
        "1.2.3.4%lo",
        "%lo",
        "::1::2",
        "1.2.3.4:5",
        "0123456789012345678901234567890123456789012345678901234567890123456789%lo",
    };

    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        struct address address = {.in.sin_port = 4711};

        cr_expect_not(address_parse(hosts[i], 1, &address), "%s", hosts[i]);
        cr_expect_eq(address.in.sin_port, 4711, "untouched on failure");
    }
}

Test(address, knows_the_scope_of_a_link_local_address)
{
    struct address address = parsed("fe80::1%lo", 1);

    cr_expect_eq(address.in6.sin6_scope_id, 1, "lo is the first interface");
}

Test(address, changes_its_port)
{
    struct address v4 = parsed("1.2.3.4", 1), v6 = parsed("::2", 1), local = {0};

    local.sa.sa_family = AF_UNIX;
    address_set_port(&v4, 65535);
    address_set_port(&v6, 5432);
    address_set_port(&local, 5432);
    cr_expect_eq(address_port(&v4), 65535);
    cr_expect_eq(address_port(&v6), 5432);
    cr_expect_eq(address_port(&local), 0);
}

Test(address, has_the_length_that_the_kernel_wants)
{
    struct address v4 = parsed("1.2.3.4", 1), v6 = parsed("::2", 1), local = {0};

    local.sa.sa_family = AF_UNIX;
    cr_expect_eq(address_length(&v4), sizeof(struct sockaddr_in));
    cr_expect_eq(address_length(&v6), sizeof(struct sockaddr_in6));
    cr_expect_eq(address_length(&local), sizeof(sa_family_t));
    cr_expect_leq(sizeof(struct address), 28);
}

Test(address, of_a_unix_socket_is_a_word)
{
    struct address local = {0};
    char text[ADDRESS_TEXT_MAX];

    local.sa.sa_family = AF_UNIX;
    cr_expect_str_eq(address_print(&local, text), "unix");
    cr_expect_str_eq(address_print_host(&local, text), "unix");
}

Test(address, compares_hosts_whatever_the_ports_and_forms)
{
    struct address v4 = parsed("10.1.2.3", 1), mapped = parsed("::ffff:10.1.2.3", 2);
    struct address near = parsed("10.1.2.4", 1), v6 = parsed("::10.1.2.3", 1);

    cr_expect(address_same_host(&v4, &mapped));
    cr_expect_eq(address_hash_host(&v4), address_hash_host(&mapped));
    cr_expect_not(address_same_host(&v4, &near));
    cr_expect_neq(address_hash_host(&v4), address_hash_host(&near));
    cr_expect_not(address_same_host(&v4, &v6), "v4-compatible is not v4-mapped");
}

/* ---- endpoints ----------------------------------------------------------------------
 */

Test(address, endpoints_are_host_and_port_or_a_path)
{
    static const struct {
        const char *text, *host, *path;
        uint16_t port;
    } examples[] = {
        {"127.0.0.1:5432", "127.0.0.1", NULL, 5432},
        {"pg1.example.com:1", "pg1.example.com", NULL, 1},
        {"[::1]:65535", "::1", NULL, 65535},
        {"[fe80::1%lo]:5", "fe80::1%lo", NULL, 5},
        {"*:5000", "*", NULL, 5000},
        {"/run/pgrouter/.s.PGSQL.5432", NULL, "/run/pgrouter/.s.PGSQL.5432", 0},
        {"/a:1", NULL, "/a:1", 0},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct endpoint endpoint;
        const char *why;

        cr_assert(endpoint_parse(examples[i].text, &endpoint, &why), "%s: %s",
                  examples[i].text, why);
        cr_expect_eq(endpoint.port, examples[i].port);
        if (examples[i].host == NULL)
            cr_expect_null(endpoint.host);
        else
            cr_expect_str_eq(endpoint.host, examples[i].host);
        if (examples[i].path == NULL)
            cr_expect_null(endpoint.path);
        else
            cr_expect_str_eq(endpoint.path, examples[i].path);
        endpoint_clear(&endpoint);
        cr_expect_null(endpoint.host);
    }
}

Test(address, wrong_endpoints_are_refused_with_what_was_expected)
{
    static const struct {
        const char *text, *why;
    } examples[] = {
        {"", "host:port, [v6]:port, *:port or /path"},
        {"5432", "host:port, [v6]:port, *:port or /path"},
        {":5432", "host:port, [v6]:port, *:port or /path"},
        {"[::1]", "host:port, [v6]:port, *:port or /path"},
        {"[::1", "host:port, [v6]:port, *:port or /path"},
        {"[]:5432", "host:port, [v6]:port, *:port or /path"},
        {"[::1]5432", "host:port, [v6]:port, *:port or /path"},
        {"::1:5432", "an IPv6 address in brackets: [v6]:port"},
        {"a:", "a port from 1 to 65535 behind the last colon"},
        {"a:0", "a port from 1 to 65535 behind the last colon"},
        {"a:65536", "a port from 1 to 65535 behind the last colon"},
        {"a:99999999999999999999", "a port from 1 to 65535 behind the last colon"},
        {"a:-1", "a port from 1 to 65535 behind the last colon"},
        {"a:+1", "a port from 1 to 65535 behind the last colon"},
        {"a: 1", "a port from 1 to 65535 behind the last colon"},
        {"a:5432x", "a port from 1 to 65535 behind the last colon"},
        {"[::1]:x", "a port from 1 to 65535 behind the last colon"},
        {"[pg1]:5432", "an IPv6 address between the brackets"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct endpoint endpoint = {.port = 4711};
        const char *why = "";

        cr_expect_not(endpoint_parse(examples[i].text, &endpoint, &why), "%s",
                      examples[i].text);
        cr_expect_str_eq(why, examples[i].why, "%s: %s", examples[i].text, why);
        cr_expect_eq(endpoint.port, 4711, "untouched on failure");
    }
}

Test(address, the_longest_path_of_a_unix_socket_has_107_bytes)
{
    struct endpoint endpoint;
    const char *why;
    char path[110];

    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[108] = '\0';
    cr_expect_not(endpoint_parse(path, &endpoint, &why));
    cr_expect_str_eq(why, "a unix socket's path of at most 107 bytes");
    path[107] = '\0';
    cr_assert(endpoint_parse(path, &endpoint, &why));
    endpoint_clear(&endpoint);
}

Test(address, endpoints_are_equal_when_all_of_them_is)
{
    static const char *const texts[] = {"a:1", "a:2", "b:1", "/a", "/b", "*:1"};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        for (size_t k = 0; k < COUNT_OF(texts); k++) {
            struct endpoint a, b;
            const char *why;

            cr_assert(endpoint_parse(texts[i], &a, &why) &&
                      endpoint_parse(texts[k], &b, &why));
            cr_expect_eq(endpoint_equal(&a, &b), i == k, "%s %s", texts[i], texts[k]);
            endpoint_clear(&a);
            endpoint_clear(&b);
        }
    }
}

static void parse(void *text)
{
    struct endpoint endpoint = {.port = 4711};
    const char *why = "";

    if (endpoint_parse(text, &endpoint, &why)) {
        endpoint_clear(&endpoint);
    } else {
        cr_expect_str_eq(why, "memory");
        cr_expect_eq(endpoint.port, 4711);
    }
}

Test(address, endpoints_survive_each_allocation_failure)
{
    char host[] = "127.0.0.1:1", v6[] = "[::1]:1", path[] = "/path";

    cr_expect_eq(fault_each_allocation(parse, host), 1);
    cr_expect_eq(fault_each_allocation(parse, v6), 1);
    cr_expect_eq(fault_each_allocation(parse, path), 1);
}

/* ---- networks ---- */

static void expect_in(const char *text, const char *host, bool is_in)
{
    struct network network;
    struct address address = {.sa = {.sa_family = AF_UNIX}};

    cr_assert(network_parse(text, &network), "%s", text);
    cr_assert(strcmp(host, "unix") == 0 || address_parse(host, 4711, &address));
    cr_expect_eq(network_has(&network, &address), is_in, "%s in %s", host, text);
}

Test(address, networks_have_what_begins_alike)
{
    expect_in("10.0.0.0/8", "10.255.1.2", true);
    expect_in("10.0.0.0/8", "11.0.0.0", false);
    expect_in("10.1.2.3/8", "10.9.9.9", true);
    expect_in("10.0.0.0/9", "10.127.255.255", true);
    expect_in("10.0.0.0/9", "10.128.0.0", false);
    expect_in("192.0.2.128/25", "192.0.2.127", false);
    expect_in("192.0.2.128/25", "192.0.2.255", true);
    expect_in("192.0.2.7", "192.0.2.7", true);
    expect_in("192.0.2.7/32", "192.0.2.6", false);
    expect_in("192.0.2.7/31", "192.0.2.6", true);
    expect_in("0.0.0.0/0", "203.0.113.1", true);
    expect_in("0.0.0.0/0", "2001:db8::1", false);
    expect_in("0.0.0.0/0", "::ffff:203.0.113.1", true);
    expect_in("::ffff:10.0.0.0/104", "10.1.2.3", true);
    expect_in("::/0", "2001:db8::1", true);
    expect_in("fd00::/7", "fc00::1", true);
    expect_in("fd00::/8", "fc00::1", false);
    expect_in("fd00::1", "fd00::2", false);
    expect_in("::/0", "unix", false);
    expect_in("0.0.0.0/0", "unix", false);
    expect_in("unix", "unix", true);
    expect_in("unix", "127.0.0.1", false);
    expect_in("unix", "::1", false);
}

Test(address, refuses_what_is_no_network)
{
    static const char *const texts[] = {"",
                                        "/",
                                        "10.0.0.0/",
                                        "10.0.0.0/33",
                                        "10.0.0.0/-1",
                                        "10.0.0.0/+8",
                                        "10.0.0.0/8x",
                                        "10.0.0.0/ 8",
                                        "10.0.0/8",
                                        "::/129",
                                        "fe80::1%lo/64",
                                        "localhost",
                                        "10.0.0.0/8/8",
                                        "10.0.0.0/99999999999999999999",
                                        "unix/8",
                                        "UNIX",
                                        "*"};
    struct network network;

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        cr_expect_not(network_parse(texts[i], &network), "%s", texts[i]);
}

Test(address, networks_are_compared)
{
    struct network a, b, c, d;

    cr_assert(network_parse("10.0.0.0/8", &a) &&
              network_parse("::ffff:10.0.0.0/104", &b));
    cr_assert(network_parse("10.0.0.0/9", &c) && network_parse("unix", &d));
    cr_expect(network_equal(&a, &a) && network_equal(&d, &d));
    cr_expect_not(network_equal(&a, &b)); /* it is written in another way */
    cr_expect_not(network_equal(&a, &c) || network_equal(&a, &d));
}
