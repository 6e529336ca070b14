/* SPDX-License-Identifier: MIT */
/*
 * Range fields, entity-tag lists and dates. Properties: ranges lie within the representation and
 * are no more bytes than it has; a strong match is a weak match; an accepted date, formatted, reads
 * as the same second.
 *
 * The first eight bytes are the size of the representation, the next is the length of a tag taken
 * from the rest.
 */
#include <errno.h>

#include "fuzz.h"
#include "http/date.h"
#include "http/range.h"

#define RANGES_MAX 8
#define NOW INT64_C(1795305600)

static void check_range(struct fibril__span text, uint64_t size)
{
    struct fibril__http_range ranges[RANGES_MAX];
    uint64_t sum = 0;
    int n = fibril__http_range_parse(text, size, ranges, RANGES_MAX);
    REQUIRE(n == -ERANGE || (n >= 0 && n <= RANGES_MAX));
    for (int i = 0; i < n; i++) {
        REQUIRE(ranges[i].first <= ranges[i].last && ranges[i].last < size);
        sum += ranges[i].last - ranges[i].first + 1;
        REQUIRE(sum <= size);
    }
}

static void check_etag(struct fibril__span list, struct fibril__span etag)
{
    int weak = fibril__http_etag_match(list, etag, true);
    int strong = fibril__http_etag_match(list, etag, false);
    REQUIRE(weak == 0 || weak == 1 || weak == -EINVAL);
    REQUIRE(weak == -EINVAL ? strong == -EINVAL : strong >= 0 && strong <= weak);
    if (fibril__http_etag_valid(etag)) {
        REQUIRE(fibril__http_etag_match(etag, etag, true) == 1);
        REQUIRE(fibril__http_etag_match(etag, etag, false) == (etag.ptr[0] == 'W' ? 0 : 1));
    }
}

static void check_date(struct fibril__span text)
{
    int64_t seconds = 0;
    int64_t again = 0;
    char out[FIBRIL__HTTP_DATE_BYTES];
    int rc = fibril__http_date_parse(text, NOW, &seconds);
    REQUIRE(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        REQUIRE(fibril__http_date_format(seconds, out) == 0);
        REQUIRE(fibril__http_date_parse((struct fibril__span){out, sizeof(out)}, NOW, &again) == 0);
        REQUIRE(again == seconds);
        REQUIRE(fibril__http_if_range(text, (struct fibril__span){NULL, 0}, seconds, NOW) ==
                (seconds >= 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t representation = 0;
    if (size < 9 || size > 4096) {
        return 0;
    }
    memcpy(&representation, data, sizeof(representation));
    size_t len = size - 9;
    size_t tag = data[8] < len ? data[8] : len;
    char *text = fuzz_copy(data + 9, len);
    char *etag = fuzz_copy(data + 9, tag);
    check_range((struct fibril__span){text, len}, representation);
    check_etag((struct fibril__span){text, len}, (struct fibril__span){etag, tag});
    check_date((struct fibril__span){text, len});
    free(text);
    free(etag);
    return 0;
}
