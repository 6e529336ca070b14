/* SPDX-License-Identifier: MIT */
/*
 * Finding the first byte that ends a run: sixteen at a time with SSE2 (part of every x86-64), eight
 * at a time in a plain word elsewhere, one at a time for the rest. The choice is made here and
 * nowhere else.
 *
 * Invariant: no byte at or after `end` is ever read, so input may stop right before an unmapped
 * page. Wider loads with masking were rejected for that reason; SSE4.2's string compares because
 * their fixed cost loses on the short lines that requests are made of.
 */
#ifndef FIBRIL_HTTP_SCAN_H
#define FIBRIL_HTTP_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(FIBRIL_HTTP_SCALAR)
#include <emmintrin.h>
#define FIBRIL__SCAN_SSE2 1
#else
#define FIBRIL__SCAN_SSE2 0
#endif

static inline bool fibril__ends_value(unsigned char c)
{
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

static inline bool fibril__ends_target(unsigned char c)
{
    return c <= 0x20 || c >= 0x7f || c == '#';
}

#if FIBRIL__SCAN_SSE2
static inline unsigned fibril__value_mask(__m128i v)
{
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
    __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
}

static inline unsigned fibril__target_mask(__m128i v)
{
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x20)), v);
    __m128i high = _mm_cmpeq_epi8(_mm_max_epu8(v, _mm_set1_epi8(0x7f)), v);
    __m128i hash = _mm_cmpeq_epi8(v, _mm_set1_epi8('#'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, high), hash));
}

/* Letters, digits, '-' and '.': what names of fields and hosts are made of nearly always. */
static inline unsigned fibril__plain_mask(__m128i v)
{
    __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
    __m128i dash = _mm_sub_epi8(v, _mm_set1_epi8('-'));
    letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    dash = _mm_cmpeq_epi8(_mm_min_epu8(dash, _mm_set1_epi8(1)), dash);
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, digit), dash)) ^ 0xffffu;
}

#define FIBRIL__SCAN_STEP 16
#define FIBRIL__SCAN_HIT(kind, at)                                                                 \
    fibril__##kind##_mask(_mm_loadu_si128((const __m128i *)(const void *)(at)))
#define FIBRIL__SCAN_INDEX(hit) __builtin_ctz(hit)
#else
/*
 * A word at a time: the high bit of a byte of the result is set when that byte may end the run.
 * Exact for "none of the eight"; a borrow may blame a later byte too, so a hit is settled byte by
 * byte. DEL and eight-bit bytes take the slow way as well.
 */
static inline uint64_t fibril__value_mask(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    return ((v - ones * 0x20) | (v + ones)) & (ones * 0x80);
}

static inline uint64_t fibril__target_mask(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t hash = v ^ (ones * '#');
    return ((v - ones * 0x21) | (v + ones) | (hash - ones)) & (ones * 0x80);
}

static inline uint64_t fibril__scan_load(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

#define FIBRIL__SCAN_STEP 8
#define FIBRIL__SCAN_HIT(kind, at) fibril__##kind##_mask(fibril__scan_load(at))
#define FIBRIL__SCAN_INDEX(hit) 0
#endif

/*
 * Skips letters, digits, '-' and '.' at the front of [at, end), but perhaps not all of them: the
 * caller goes on byte by byte with the class it really wants.
 */
static inline const char *fibril__scan_plain(const char *at, const char *end)
{
#if FIBRIL__SCAN_SSE2
    while (end - at >= FIBRIL__SCAN_STEP) {
        unsigned hit = FIBRIL__SCAN_HIT(plain, at);
        if (hit != 0) {
            return at + FIBRIL__SCAN_INDEX(hit);
        }
        at += FIBRIL__SCAN_STEP;
    }
#endif
    return at;
}

/* The first byte of [at, end) that may not stand in a field value, or end. */
static inline const char *fibril__scan_value(const char *at, const char *end)
{
    while (end - at >= FIBRIL__SCAN_STEP) {
        uint64_t hit = FIBRIL__SCAN_HIT(value, at);
        if (hit != 0) {
            at += FIBRIL__SCAN_INDEX((unsigned)hit);
            if (FIBRIL__SCAN_SSE2 || fibril__ends_value((unsigned char)*at)) {
                return at;
            }
            at++;
            continue;
        }
        at += FIBRIL__SCAN_STEP;
    }
    while (at < end && !fibril__ends_value((unsigned char)*at)) {
        at++;
    }
    return at;
}

/* The first byte of [at, end) that may not stand in a request target, or end. */
static inline const char *fibril__scan_target(const char *at, const char *end)
{
    while (end - at >= FIBRIL__SCAN_STEP) {
        uint64_t hit = FIBRIL__SCAN_HIT(target, at);
        if (hit != 0) {
            at += FIBRIL__SCAN_INDEX((unsigned)hit);
            if (FIBRIL__SCAN_SSE2 || fibril__ends_target((unsigned char)*at)) {
                return at;
            }
            at++;
            continue;
        }
        at += FIBRIL__SCAN_STEP;
    }
    while (at < end && !fibril__ends_target((unsigned char)*at)) {
        at++;
    }
    return at;
}

#endif
