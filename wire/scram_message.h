/* wire/scram_message.h - the messages of SCRAM, as both sides of it write, read and sign
 * them. For wire/scram_server.c and wire/scram_client.c alone.
 */
#ifndef WIRE_SCRAM_MESSAGE_H
#define WIRE_SCRAM_MESSAGE_H

#include "wire/scram.h"

/* ---- writing: the limits in wire/scram.h see to it that everything fits ---------- */

void scram_add(struct scram_message *message, const char *text);
void scram_add_n(struct scram_message *message, const char *bytes, size_t n);
void scram_add_base64(struct scram_message *message, const uint8_t *bytes, size_t n);
void scram_add_number(struct scram_message *message, uint32_t number);
/* c=, which shows that both ends speak over the same connection. */
void scram_add_binding(struct scram_message *message, char flag,
                       const struct channel_binding *binding);

#define SCRAM_BOUND_HEADER "p=tls-server-end-point,,"
/* What a client-first-message begins with, by its flag: n, y, p. */
const char *scram_gs2_header(char flag);

/* ---- reading --------------------------------------------------------------------- */

struct scram_span {
    const char *at;
    size_t n;
};

/* A message as its attributes: x=value,y=value */
struct scram_reader {
    const char *at, *end;
    bool has_more; /* at the begin, and behind a comma */
};

/* What is wrong with any message before it is looked into. */
enum scram_result scram_check_input(const uint8_t *bytes, size_t n) MUST_CHECK;
struct scram_reader scram_reader_of(const char *bytes, size_t n);
/* Takes the next attribute, whatever it is; false when there is none. */
bool scram_take_any(struct scram_reader *reader, char *name,
                    struct scram_span *value) MUST_CHECK;
/* Takes the next attribute if its name is that; else the reader stays where it is. */
bool scram_take(struct scram_reader *reader, char name,
                struct scram_span *value) MUST_CHECK;
/* What it means that another attribute was expected here: a mandatory extension is
 * something unsupported, everything else malformed. */
static inline enum scram_result scram_fault_at(const struct scram_reader *reader)
{
    bool is_extension = reader->has_more && reader->end - reader->at >= 2 &&
                        reader->at[0] == 'm' && reader->at[1] == '=';

    return is_extension ? SCRAM_UNSUPPORTED : SCRAM_MALFORMED;
}
bool scram_read_key(struct scram_span text, uint8_t key[SCRAM_KEY_BYTES]) MUST_CHECK;
/* Not empty, and of characters that a nonce may have. */
bool scram_is_printable(const char *text, size_t n);
/* In constant time for equal lengths. */
bool scram_is_same(const char *a, size_t n_a, const char *b, size_t n_b);

/* ---- signing --------------------------------------------------------------------- */

/* AuthMessage: client-first-message-bare, server-first-message and
 * client-final-message-without-proof, with commas in between. */
struct scram_transcript {
    size_t n;
    char bytes[SCRAM_BARE_MAX + 1 + SCRAM_OUTPUT_MAX + 1 + SCRAM_INPUT_MAX];
};
void scram_transcribe(struct scram_transcript *transcript, const char *bytes, size_t n);
bool scram_sign(const struct scram_transcript *transcript,
                const uint8_t key[SCRAM_KEY_BYTES],
                uint8_t signature[SCRAM_KEY_BYTES]) MUST_CHECK;
/* The XOR of both, in `key`: of a ClientKey the proof, of a proof the ClientKey. */
void scram_apply(uint8_t key[SCRAM_KEY_BYTES], const uint8_t signature[SCRAM_KEY_BYTES]);

/* Keeps our share of a nonce; one that may not be used is a bug of the caller. */
void scram_copy_nonce(char own_nonce[SCRAM_OWN_NONCE_MAX + 1], const char *nonce);

#endif
