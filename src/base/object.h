/* SPDX-License-Identifier: MIT */
/*
 * Loaded objects (programs and libraries), as dl_iterate_phdr shows them.
 */
#ifndef FIBRIL_BASE_OBJECT_H
#define FIBRIL_BASE_OBJECT_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether the address lies in one of the loaded segments of the object. */
static inline bool fibril__object_holds(const struct dl_phdr_info *object, const void *address)
{
    for (int n = 0; n < object->dlpi_phnum; n++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[n];
        uintptr_t start = object->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_LOAD && (uintptr_t)address - start < p->p_memsz) {
            return true;
        }
    }
    return false;
}

#endif
