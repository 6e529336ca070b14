/* SPDX-License-Identifier: MIT */
/*
 * Paths and queries. Properties: a normalised path begins with a slash, has no empty or dot segment
 * and no NUL, is not longer than its source, comes out the same in place, and is its own normal
 * form once its percent signs are escaped again; the pairs of a query are all of its bytes but the
 * separators.
 */
#include <errno.h>

#include "fuzz.h"
#include "http/uri.h"

static bool has_dot_segment(const char *path, size_t len)
{
    size_t start = 1;
    for (size_t i = 1; i <= len; i++) {
        if (i == len || path[i] == '/') {
            size_t segment = i - start;
            bool last = i == len;
            bool dot = segment == 1 && path[start] == '.';
            bool dots = segment == 2 && path[start] == '.' && path[start + 1] == '.';
            if (dot || dots || (segment == 0 && !last)) {
                return true;
            }
            start = i + 1;
        }
    }
    return false;
}

static void check_normal(const char *path, size_t len)
{
    char *escaped = malloc(3 * len);
    char *again = malloc(3 * len);
    size_t n = 0;
    size_t again_len = 0;
    REQUIRE(escaped != NULL && again != NULL);
    REQUIRE(len > 0 && path[0] == '/' && memchr(path, '\0', len) == NULL);
    REQUIRE(!has_dot_segment(path, len));
    for (size_t i = 0; i < len; i++) {
        if (path[i] == '%') {
            memcpy(escaped + n, "%25", 3);
            n += 3;
        } else {
            escaped[n++] = path[i];
        }
    }
    REQUIRE(fibril__http_path_normalise((struct fibril__span){escaped, n}, again, 3 * len,
                                        &again_len) == 0);
    REQUIRE(again_len == len && memcmp(again, path, len) == 0);
    free(escaped);
    free(again);
}

static void check_path(const char *in, size_t len)
{
    char *copy = fuzz_copy(in, len);
    char *out = fuzz_copy(in, len);
    size_t out_len = 0;
    size_t in_place_len = 0;
    int rc = fibril__http_path_normalise((struct fibril__span){in, len}, out, len, &out_len);
    REQUIRE(rc == 0 || rc == -EINVAL);
    int again =
        fibril__http_path_normalise((struct fibril__span){copy, len}, copy, len, &in_place_len);
    REQUIRE(again == rc && in_place_len == out_len && memcmp(copy, out, out_len) == 0);
    if (rc == 0) {
        REQUIRE(out_len <= len);
        check_normal(out, out_len);
        REQUIRE(out_len < 2 || fibril__http_path_normalise((struct fibril__span){in, len}, out, 0,
                                                           &out_len) == -ENOBUFS);
    }
    free(copy);
    free(out);
}

static void check_query(const char *in, size_t len)
{
    char *copy = fuzz_copy(in, len);
    struct fibril__span query = {copy, len};
    struct fibril__span name;
    struct fibril__span value;
    size_t bytes = 0;
    size_t separators = 0;
    while (fibril__http_query_next(&query, &name, &value)) {
        REQUIRE(name.ptr >= copy && name.ptr + name.len <= copy + len);
        REQUIRE(memchr(name.ptr, '=', name.len) == NULL && memchr(name.ptr, '&', name.len) == NULL);
        bytes += name.len + (value.ptr != NULL ? value.len + 1 : 0);
    }
    for (size_t i = 0; i < len; i++) {
        separators += in[i] == '&' ? 1 : 0;
    }
    REQUIRE(bytes + separators == len && query.len == 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096) {
        return 0;
    }
    char *in = fuzz_copy(data, size);
    check_path(in, size);
    check_query(in, size);
    free(in);
    return 0;
}
