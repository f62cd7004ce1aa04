/* pool/mock_key.h - the key of which salts are made for users who have no SCRAM secret.
 *
 * Whoever asks for a login twice must get the same salt twice, also of a user who does
 * not exist, on every worker and after a restart: else the two kinds can be told apart.
 * Nothing of ours is written to disk, so the key is made of what is there and secret, the
 * first of:
 *
 *   scram_mock_secret   which processes behind one address, and containers, need
 *   the machine's id    /etc/machine-id: machine-id(5) asks for a keyed hash of it
 *   our TLS key         client_tls_key_file
 *   chance              then salts change with a restart
 *
 * Never of users' secrets: a salt, which anybody may ask for, would let passwords be
 * guessed, and would change with every new user. Pure but for the files.
 *
 * Thread: any; blocks on files, so control's at start and on reload.
 */
#ifndef POOL_MOCK_KEY_H
#define POOL_MOCK_KEY_H

#include <stdint.h>

#include "core/check.h"

#define MOCK_KEY_BYTES 32u

enum mock_key_source {
    MOCK_KEY_OF_NOTHING, /* libcrypto fails */
    MOCK_KEY_OF_SETTING,
    MOCK_KEY_OF_MACHINE,
    MOCK_KEY_OF_TLS,
    MOCK_KEY_OF_CHANCE
};

/* "" = there is none, of each. A file that cannot be read is none, and so is an id that
 * is not one. */
enum mock_key_source mock_key_make(const char *secret, const char *machine_id_file,
                                   const char *tls_key_file,
                                   uint8_t key[MOCK_KEY_BYTES]) MUST_CHECK;

#endif
