/* tests/fuzz/fuzz_ini.c - any bytes as an ini text.
 *
 * Either it loads, and then every listener and database leads somewhere and the
 * configuration can be compared and freed, or it is refused with a reason. A text cannot
 * include files, so nothing outside is touched.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config/config.h"
#include "core/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *ini = memory_text_n((const char *)bytes, size);
    struct config *config;
    struct text errors, names;

    REQUIRE(ini != NULL);
    text_init(&errors, 1 << 20);
    text_init(&names, 1 << 20);
    config = config_load_text("fuzz", ini, &errors);
    REQUIRE((config == NULL) == (errors.length > 0));
    if (config != NULL) {
        REQUIRE(config->n_listeners > 0);
        for (size_t i = 0; i < config->n_listeners; i++) {
            const struct listener_config *listener = &config->listeners[i];

            REQUIRE(listener->bind.n > 0);
            REQUIRE((listener->to == NULL) == (listener->mode == MODE_POOL));
        }
        for (size_t i = 0; i < config->n_databases; i++)
            REQUIRE(config->databases[i].to->nodes.n > 0);
        config_needs_restart(config, config, &names);
        REQUIRE(names.length == 0);
    }
    config_release(config);
    text_clear(&errors);
    text_clear(&names);
    memory_free(ini);
    return 0;
}
