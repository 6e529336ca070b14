/* SPDX-License-Identifier: MIT */
/*
 * The option --limits: the limits of a server by name, as key=value,key=value.
 */
#ifndef FIBRIL_CLI_LIMITS_H
#define FIBRIL_CLI_LIMITS_H

#include "options.h"

/* Field: struct fibril_http_limits. */
option_set option_limits;

/* Writes the table of keys, units and defaults into text, which is large enough from 4 KiB. */
void limits_describe(char *text, size_t size);

#endif
