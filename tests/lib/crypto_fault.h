/* tests/lib/crypto_fault.h - libcrypto, with each of its allocations failing in turn. */
#ifndef TESTS_LIB_CRYPTO_FAULT_H
#define TESTS_LIB_CRYPTO_FAULT_H

#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/check.h"

/* When 1, libcrypto's next allocation fails; counts down with each one; 0 = off. */
static unsigned crypto_fault_at;

static bool crypto_fault_is_now(void)
{
    return crypto_fault_at > 0 && --crypto_fault_at == 0;
}

static void *crypto_fault_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return crypto_fault_is_now() ? NULL : malloc(size);
}

static void *crypto_fault_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return crypto_fault_is_now() ? NULL : realloc(old, size);
}

static void crypto_fault_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    free(memory);
}

/* Before main(): once libcrypto has been used, by Criterion for one, it is too late. */
__attribute__((constructor)) static void crypto_fault_install(void)
{
    REQUIRE(CRYPTO_set_mem_functions(crypto_fault_malloc, crypto_fault_realloc,
                                     crypto_fault_free) == 1);
}

/* Calls `attempt` undisturbed, for libcrypto to load what it keeps, and then with the
 * 1st, 2nd, ... allocation failing, until a call made fewer. Returns how many allocations
 * an undisturbed call makes. */
static inline unsigned crypto_fault_each(void (*attempt)(void *arg), void *arg)
{
    unsigned nth = 0;

    attempt(arg);
    do {
        crypto_fault_at = ++nth;
        attempt(arg);
    } while (crypto_fault_at == 0);
    crypto_fault_at = 0;
    return nth - 1;
}

#endif
