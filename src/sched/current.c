/* SPDX-License-Identifier: MIT */
/* See current.h. */
#include "sched/current.h"

_Thread_local struct fibril_loop *fibril__loop;
