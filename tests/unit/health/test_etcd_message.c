#include "health/etcd_message.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"

#define PREFIX "/service/main/"

TestSuite(etcd_message, .timeout = 10);

static struct store_keys keys;
static struct etcd_said said;
static int64_t revision;

static void read_range(const char *body)
{
    store_keys_clear(&keys);
    etcd_read_range(body, strlen(body), PREFIX, &said, &keys);
}

static void read_watch(const char *body)
{
    etcd_read_watch(body, strlen(body), PREFIX, &said, &keys, &revision);
}

/* As etcd 3.4.23 answers: leader = pg1, failover = {}. */
static const char range[] =
    "{\"header\":{\"cluster_id\":\"14841639068965178418\",\"member_id\":"
    "\"10276657743932975437\",\"revision\":\"9\",\"raft_term\":\"2\"},\"kvs\":["
    "{\"key\":\"L3NlcnZpY2UvbWFpbi9mYWlsb3Zlcg==\",\"create_revision\":\"8\","
    "\"mod_revision\":\"8\",\"version\":\"1\",\"value\":\"e30=\"},"
    "{\"key\":\"L3NlcnZpY2UvbWFpbi9sZWFkZXI=\",\"create_revision\":\"5\","
    "\"mod_revision\":\"7\",\"version\":\"2\",\"value\":\"cGcx\",\"lease\":"
    "\"7587877744343410434\"}],\"count\":\"2\"}";

Test(etcd_message, asks_for_a_prefix)
{
    struct text body;

    text_init(&body, 1000);
    etcd_ask_range(&body, "/a/");
    cr_expect_str_eq(text_get(&body), "{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\"}");
    text_clear(&body);
    etcd_ask_range(&body, "a\xff\xff");
    cr_expect_str_eq(text_get(&body), "{\"key\":\"Yf//\",\"range_end\":\"Yg==\"}");
    text_clear(&body);
    etcd_ask_watch(&body, "/a/", INT64_C(9007199254740993));
    cr_expect_str_eq(text_get(&body),
                     "{\"create_request\":{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\","
                     "\"start_revision\":\"9007199254740993\"}}");
    text_clear(&body);
}

Test(etcd_message, quotes_user_and_password)
{
    struct text body;

    text_init(&body, 1000);
    etcd_ask_login(&body, "a\"b", "\\c\n");
    cr_expect_str_eq(text_get(&body), "{\"name\":\"a\\\"b\",\"password\":\"\\\\c\\n\"}");
    text_clear(&body);
    etcd_ask_login(&body, "user", "not UTF-8: \xff");
    cr_expect(body.overflowed);
    text_clear(&body);
}

Test(etcd_message, reads_a_range)
{
    read_range(range);
    cr_expect_eq(said.meaning, ETCD_DONE, "%s", said.words);
    cr_expect_str_eq(said.cluster_id, "14841639068965178418");
    cr_expect_eq(said.revision, 9);
    cr_assert_eq(keys.n, 2);
    cr_expect_str_eq(store_keys_find(&keys, "leader")->value, "pg1");
    cr_expect_eq(store_keys_find(&keys, "leader")->created_at, 5);
    cr_expect_eq(store_keys_find(&keys, "leader")->changed_at, 7);
    cr_expect_str_eq(store_keys_find(&keys, "failover")->value, "{}");
    read_range("{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\"}}");
    cr_expect_eq(said.meaning, ETCD_DONE, "no keys are an answer");
    cr_expect_eq(keys.n, 0);
    store_keys_clear(&keys);
}

Test(etcd_message, refuses_ranges_that_make_no_sense)
{
    static const char *const wrong[] = {
        "",
        "[]",
        "null",
        "{}",
        "{\"header\":{}}",
        "{\"header\":{\"cluster_id\":\"1\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"-9\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"99999999999999999999\"}}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\"},\"kvs\":[1]}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\"},\"kvs\":[{\"key\":"
        "\"L3NlcnZpY2UvbWFpbi9sZWFkZXI=\"}]}",
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\"},\"kvs\":[{\"key\":"
        "\"*\",\"mod_revision\":\"7\"}]}",
        /* a key of somebody else's */
        "{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9\"},\"kvs\":[{\"key\":"
        "\"YQ==\",\"mod_revision\":\"7\"}]}",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        read_range(wrong[i]);
        cr_expect_eq(said.meaning, ETCD_NONSENSE, "%s", wrong[i]);
        cr_expect_str_neq(said.words, "");
        cr_expect_eq(keys.n, 0);
    }
}

Test(etcd_message, tells_errors_apart)
{
    static const struct {
        const char *body;
        enum etcd_meaning meaning;
        const char *words;
    } errors[] = {
        /* 3.4 */
        {"{\"error\":\"etcdserver: invalid auth token\",\"message\":\"etcdserver: "
         "invalid "
         "auth token\",\"code\":16}",
         ETCD_TOKEN, "etcdserver: invalid auth token"},
        {"{\"error\":\"etcdserver: user name is empty\",\"message\":\"etcdserver: user "
         "name "
         "is empty\",\"code\":3}",
         ETCD_TOKEN, "etcdserver: user name is empty"},
        {"{\"error\":\"etcdserver: authentication is not enabled\",\"message\":\"\","
         "\"code\":9}",
         ETCD_NO_USERS, "etcdserver: authentication is not enabled"},
        {"{\"error\":\"etcdserver: no leader\",\"message\":\"etcdserver: no leader\","
         "\"code\":14}",
         ETCD_REFUSED, "etcdserver: no leader"},
        /* 3.6 */
        {"{\"code\":16,\"message\":\"etcdserver: invalid auth token\",\"details\":[]}",
         ETCD_TOKEN, "etcdserver: invalid auth token"},
        /* in a stream */
        {"{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no "
         "leader\",\"http_status\":\"Service Unavailable\"}}",
         ETCD_REFUSED, "etcdserver: no leader"},
        {"{\"error\":{}}", ETCD_REFUSED, "an error without words"},
    };

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        read_range(errors[i].body);
        cr_expect_eq(said.meaning, errors[i].meaning, "%s", errors[i].body);
        cr_expect_str_eq(said.words, errors[i].words);
        read_watch(errors[i].body);
        cr_expect_eq(said.meaning, errors[i].meaning, "%s", errors[i].body);
    }
}

Test(etcd_message, applies_what_a_watch_tells)
{
    read_range(range);
    revision = said.revision;
    read_watch(
        "{\"result\":{\"header\":{\"cluster_id\":\"14841639068965178418\",\"revision\":"
        "\"9\"},\"created\":true}}");
    cr_expect_eq(said.meaning, ETCD_CREATED);
    cr_expect_not(said.has_changes);
    read_watch(
        "{\"result\":{\"header\":{\"cluster_id\":\"14841639068965178418\",\"revision\":"
        "\"12\"},\"events\":[{\"kv\":{\"key\":\"L3NlcnZpY2UvbWFpbi9sZWFkZXI=\","
        "\"create_revision\":\"11\",\"mod_revision\":\"11\",\"version\":\"1\","
        "\"value\":\"cGcy\"}},{\"type\":\"DELETE\",\"kv\":{\"key\":"
        "\"L3NlcnZpY2UvbWFpbi9mYWlsb3Zlcg==\",\"mod_revision\":\"10\"}}]}}");
    cr_expect_eq(said.meaning, ETCD_DONE);
    cr_expect(said.has_changes);
    cr_expect_str_eq(store_keys_find(&keys, "leader")->value, "pg2");
    cr_expect_eq(store_keys_find(&keys, "leader")->created_at, 11);
    cr_expect_null(store_keys_find(&keys, "failover"));
    cr_expect_eq(revision, 11, "the last change, not the header's");
    read_watch(
        "{\"result\":{\"header\":{\"cluster_id\":\"14841639068965178418\",\"revision\":"
        "\"20\"}}}");
    cr_expect_eq(said.meaning, ETCD_DONE, "a sign of life");
    cr_expect_not(said.has_changes);
    store_keys_clear(&keys);
}

Test(etcd_message, knows_the_ends_of_a_watch)
{
    read_watch(
        "{\"result\":{\"header\":{\"cluster_id\":\"1\",\"revision\":\"20\"},\"watch_id\":"
        "\"0\",\"canceled\":true,\"compact_revision\":\"15\"}}");
    cr_expect_eq(said.meaning, ETCD_COMPACTED);
    read_watch(
        "{\"result\":{\"header\":{},\"watch_id\":\"-1\",\"created\":true,\"canceled\":"
        "true,\"cancel_reason\":\"etcdserver: permission denied\"}}");
    cr_expect_eq(said.meaning, ETCD_TOKEN);
    read_watch("{\"result\":{\"canceled\":true}}");
    cr_expect_eq(said.meaning, ETCD_REFUSED);
    read_watch("{\"result\":7}");
    cr_expect_eq(said.meaning, ETCD_NONSENSE);
    read_watch("{\"result\":{\"events\":[{\"kv\":{}}]}}");
    cr_expect_eq(said.meaning, ETCD_NONSENSE);
}

Test(etcd_message, takes_a_token)
{
    static const char body[] = "{\"header\":{\"cluster_id\":\"1\"},\"token\":\"abc.9\"}";
    static const char header[] = "{\"token\":\"a\\r\\nX: y\"}";
    char token[ETCD_TOKEN_MAX] = "old";

    etcd_read_login(body, strlen(body), &said, token);
    cr_expect_eq(said.meaning, ETCD_DONE);
    cr_expect_str_eq(token, "abc.9");
    etcd_read_login("{}", 2, &said, token);
    cr_expect_eq(said.meaning, ETCD_NONSENSE);
    etcd_read_login(header, strlen(header), &said, token);
    cr_expect_eq(said.meaning, ETCD_NONSENSE, "no headers of somebody else's");
    cr_expect_str_eq(token, "abc.9");
}

Test(etcd_message, survives_each_allocation_failure)
{
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct text body;

        memory_fail_at = nth;
        text_init(&body, 1000);
        etcd_ask_range(&body, PREFIX);
        text_clear(&body);
        read_range(range);
        cr_expect(said.meaning == ETCD_DONE ? keys.n == 2 : keys.n == 0);
        store_keys_clear(&keys);
    }
    memory_fail_at = 0;
}
