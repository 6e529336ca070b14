/* SPDX-License-Identifier: MIT */
/*
 * The decoder of the frames between processes on arbitrary bytes. Properties: nothing outside the
 * frame is read; what is refused is named; what is accepted lies in the frame, and written again is
 * the same bytes.
 */
#include "fuzz.h"

#include "actor/frame.h"

#include <errno.h>

#define FRAME_MAX 4096

static void look(const char *bytes, uint32_t len)
{
    const uint8_t *frame = (const uint8_t *)bytes;
    struct fibril__frame f;
    const char *what = NULL;
    int rc = fibril__frame_read(frame, len, &f, &what);
    REQUIRE(rc == 0 || (rc == -EBADMSG && what));
    if (rc < 0) {
        return;
    }
    size_t size = fibril__frame_size(&f);
    REQUIRE(size == FIBRIL__FRAME_HEAD + (size_t)len);
    char *again = malloc(size);
    REQUIRE(again);
    fibril__frame_write(&f, (uint8_t *)again);
    REQUIRE(memcmp(again, bytes, size) == 0);
    for (unsigned i = 0; i < f.n_refs; i++) {
        struct fibril__ref ref = fibril__ref_read(f.refs + (size_t)i * FIBRIL__FRAME_REF);
        REQUIRE(ref.window > 0 && ref.owner <= FIBRIL__YOURS);
    }
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size >= FIBRIL__FRAME_HEAD) {
        uint32_t len;
        if (fibril__frame_head(data, FRAME_MAX, &len) < 0 || len > size - FIBRIL__FRAME_HEAD) {
            return 0;
        }
        char *frame = fuzz_copy(data, FIBRIL__FRAME_HEAD + (size_t)len);
        look(frame, len);
        free(frame);
        data += FIBRIL__FRAME_HEAD + (size_t)len;
        size -= FIBRIL__FRAME_HEAD + (size_t)len;
    }
    return 0;
}
