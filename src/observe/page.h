/* SPDX-License-Identifier: MIT */
/* The page, which the build makes an array of (tools/embed.py). */
#ifndef FIBRIL_OBSERVE_PAGE_H
#define FIBRIL_OBSERVE_PAGE_H

#include <stddef.h>

extern const unsigned char fibril__observe_page[];
extern const size_t fibril__observe_page_len;

#endif
