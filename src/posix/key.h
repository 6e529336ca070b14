/* SPDX-License-Identifier: MIT */
/* Between key.c and those who need to know of keys: the installation, language runtimes. */
#ifndef FIBRIL_POSIX_KEY_H
#define FIBRIL_POSIX_KEY_H

#include "posix/thread.h"

/* Learns the destructors of the keys that exist already. */
void fibril__keys_learn(void);

/* Whether `key` exists and libc's table of keys could be read; then its destructor (NULL: none). */
bool fibril__key_destructor(pthread_key_t key, void (**ret_destroy)(void *value));

/* False if `key` surely does not exist. */
bool fibril__key_may_exist(pthread_key_t key);

/* Called when a fibril other than the main one sets a value, before it is stored. A language
 * runtime that binds its thread state to a key learns so that a thread begins. NULL: nobody. */
typedef void (*fibril__posix_value_hook)(pthread_key_t key, const void *value);
extern fibril__posix_value_hook fibril__posix_on_value;

#endif
