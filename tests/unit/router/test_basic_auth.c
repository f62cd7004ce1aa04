/* Who may look at the page. The SCRAM secret is PostgreSQL's of the password "pencil". */
#include "router/console/basic_auth.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "wire/base64.h"

static struct basic_auth auth;
static char scram[512];

static void clear(void)
{
    basic_auth_clear(&auth);
}

TestSuite(basic_auth, .fini = clear, .timeout = 30);

static enum basic_auth_answer check(const char *name, const char *password)
{
    return basic_auth_check(&auth, name, password, 1000);
}

/* "alice:SCRAM-SHA-256$4096:salt$StoredKey:ServerKey" */
static void make_scram(void)
{
    struct scram_keys keys;
    struct scram_verifier verifier;
    struct scram_salt salt = {
        .iterations = 4096, .n = SCRAM_SALT_BYTES, .bytes = "0123456789abcdef"};
    char texts[3][64];

    cr_assert(scram_keys_from_password("pencil", 6, &salt, &keys));
    cr_assert(scram_verifier_from_keys(&keys, &verifier));
    texts[0][base64_write(salt.bytes, salt.n, texts[0])] = '\0';
    texts[1][base64_write(verifier.stored_key, SCRAM_KEY_BYTES, texts[1])] = '\0';
    texts[2][base64_write(verifier.server_key, SCRAM_KEY_BYTES, texts[2])] = '\0';
    snprintf(scram, sizeof scram, "alice:SCRAM-SHA-256$4096:%s$%s:%s", texts[0], texts[1],
             texts[2]);
    cr_assert(basic_auth_set(&auth, scram));
}

Test(basic_auth, without_one_everybody_may_look)
{
    cr_assert(basic_auth_set(&auth, ""));
    cr_expect_eq(check(NULL, NULL), BASIC_AUTH_FITS);
    cr_expect_eq(check("any", "thing"), BASIC_AUTH_FITS);
}

Test(basic_auth, a_password)
{
    cr_assert(basic_auth_set(&auth, "alice:pen:cil"));
    cr_expect_eq(check("alice", "pen:cil"), BASIC_AUTH_FITS);
    cr_expect_eq(check("alice", "pen"), BASIC_AUTH_WRONG);
    cr_expect_eq(check("bob", "pen:cil"), BASIC_AUTH_WRONG);
    cr_expect_eq(check("alice:pen", "cil"), BASIC_AUTH_WRONG);
    cr_expect_eq(check("alice", ""), BASIC_AUTH_WRONG);
    cr_expect_eq(check(NULL, NULL), BASIC_AUTH_WRONG);
}

Test(basic_auth, what_postgresql_keeps_as_md5)
{
    /* md5(pencilalice) */
    char hash[SECRET_MD5_BYTES], setting[64];

    cr_assert(secret_hash_md5("pencil", 6, "alice", hash));
    snprintf(setting, sizeof setting, "alice:%s", hash);
    cr_assert(basic_auth_set(&auth, setting));
    cr_expect_eq(check("alice", "pencil"), BASIC_AUTH_FITS);
    cr_expect_eq(check("alice", hash), BASIC_AUTH_WRONG, "the hash is no password");
    cr_expect_eq(check("bob", "pencil"), BASIC_AUTH_WRONG);
}

Test(basic_auth, what_postgresql_keeps_as_scram)
{
    make_scram();
    cr_expect_eq(check("alice", "pencil"), BASIC_AUTH_FITS);
    cr_expect_eq(check("alice", strchr(scram, ':') + 1), BASIC_AUTH_WRONG);
    cr_expect_eq(check("bob", "pencil"), BASIC_AUTH_WRONG);
}

Test(basic_auth, few_are_tried_in_a_second_but_for_one_that_has_fitted)
{
    make_scram();
    cr_expect_eq(check("alice", "pencil"), BASIC_AUTH_FITS);
    for (unsigned i = 1; i < BASIC_AUTH_TRIES_PER_S; i++)
        cr_expect_eq(check("alice", "wrong"), BASIC_AUTH_WRONG);
    cr_expect_eq(check("alice", "wrong"), BASIC_AUTH_LATER);
    cr_expect_eq(check("alice", "pencil"), BASIC_AUTH_FITS);
    cr_expect_eq(basic_auth_check(&auth, "alice", "wrong", 2000), BASIC_AUTH_WRONG);
    cr_assert(basic_auth_set(&auth, "alice:other"));
    cr_expect_eq(check("alice", "pencil"), BASIC_AUTH_WRONG, "nothing stays of before");
}
