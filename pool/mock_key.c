#include "pool/mock_key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "wire/scram_message.h"

#define MACHINE_ID_BYTES 32u
/* Longer than any key, which it need not be whole of. */
#define FILE_BYTES_MAX 16384u

/* What keeps the key apart from others that are made of the same. */
static const char label[] = "pgrouter: salts of users without a SCRAM secret";

static bool hash(const char *bytes, size_t n, uint8_t key[MOCK_KEY_BYTES])
{
    return scram_hmac((const uint8_t *)label, sizeof label - 1, bytes, n, key);
}

/* How many bytes were read, 0 when none could. */
static size_t read_file(const char *path, char *bytes, size_t size)
{
    FILE *file = *path == '\0' ? NULL : fopen(path, "re");
    size_t n;

    if (file == NULL)
        return 0;
    setvbuf(file, NULL, _IONBF, 0); /* no copy of a key in a buffer of libc's */
    n = fread(bytes, 1, size, file);
    fclose(file);
    return n;
}

/* "uninitialized", or that of an image that everybody has, is none. */
static bool is_machine_id(const char *bytes, size_t n)
{
    return n >= MACHINE_ID_BYTES &&
           strspn(bytes, "0123456789abcdef") >= MACHINE_ID_BYTES &&
           strspn(bytes, "0") < MACHINE_ID_BYTES;
}

enum mock_key_source mock_key_make(const char *secret, const char *machine_id_file,
                                   const char *tls_key_file, uint8_t key[MOCK_KEY_BYTES])
{
    char bytes[FILE_BYTES_MAX + 1] = "";
    enum mock_key_source source = MOCK_KEY_OF_CHANCE;
    bool ok = false;
    size_t n;

    if (*secret != '\0') {
        ok = hash(secret, strlen(secret), key);
        source = MOCK_KEY_OF_SETTING;
    } else if (n = read_file(machine_id_file, bytes, MACHINE_ID_BYTES),
               is_machine_id(bytes, n)) {
        ok = hash(bytes, n, key);
        source = MOCK_KEY_OF_MACHINE;
    } else if ((n = read_file(tls_key_file, bytes, FILE_BYTES_MAX)) > 0) {
        ok = hash(bytes, n, key);
        source = MOCK_KEY_OF_TLS;
    } else {
        ok = RAND_bytes(key, MOCK_KEY_BYTES) == 1;
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    return ok ? source : MOCK_KEY_OF_NOTHING;
}
