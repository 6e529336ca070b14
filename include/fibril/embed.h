/* SPDX-License-Identifier: MIT */
/*
 * For those who build on fibril below its threads: servers that keep idle connections without a
 * fibril, language runtimes that swap state on each switch, foreign OS threads that wake fibrils.
 */
#ifndef FIBRIL_EMBED_H
#define FIBRIL_EMBED_H

#include <fibril/fibril.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Watches: waiting without a fibril ------------------------------------------------------- */

/* A record that waits for a descriptor in the poller of a loop and has neither stack nor buffer.
 * Embed it in the object it stands for. Its callback runs on the loop between fibrils: it must not
 * park, and may spawn fibrils, wake others and start watches. */
struct fibril_watch {
    void (*fn)(struct fibril_watch *w, int result);
    uint64_t opaque_[16];
};

/* Starts w on the calling loop: fn(w, result) is called once, with the poll(2) events that fd is
 * ready for, -ETIMEDOUT, or -EBADF when fd is closed by fibril_close. If fd is ready already fn is
 * still called later, never from inside. w must stay in place until then. Returns 0 or -ENOMEM.
 * Never parks. */
FIBRIL_API int fibril_watch_start(struct fibril_watch *w, int fd, short events, int64_t deadline_ns,
                                  void (*fn)(struct fibril_watch *w, int result));

/* Stops w: returns 0 if fn will not be called any more and w is the caller's again; -EINPROGRESS if
 * the kernel still holds it: fn will be called with -ECANCELED (or what came first). Never parks.
 */
FIBRIL_API int fibril_watch_stop(struct fibril_watch *w);

/* ---- Switch hooks ---------------------------------------------------------------------------- */

/* Called on the calling loop at each switch from one fibril to another, on the stack of the one
 * that goes. NULL ends it. Must not park. A language runtime swaps its thread state here. */
FIBRIL_API void fibril_embed_on_switch(void (*fn)(struct fibril *from, struct fibril *to));

/* A word that the embedder keeps in a fibril; NULL at first. */
FIBRIL_API void fibril_embed_set(struct fibril *f, void *data);
FIBRIL_API void *fibril_embed_get(const struct fibril *f);

/* ---- Waking from outside --------------------------------------------------------------------- */

/* A place where one fibril waits for something that any OS thread may announce. */
struct fibril_waker;
FIBRIL_API int fibril_waker_new(struct fibril_waker **ret_waker);
FIBRIL_API void fibril_waker_free(struct fibril_waker *w);
/* Waits for the next wake; one that came before counts. Several count as one. MAY PARK. */
FIBRIL_API int fibril_waker_wait(struct fibril_waker *w, int64_t deadline_ns);
/* Any OS thread, also one without a loop. Lock-free, never parks. */
FIBRIL_API void fibril_waker_wake(struct fibril_waker *w);

#ifdef __cplusplus
}
#endif

#endif
