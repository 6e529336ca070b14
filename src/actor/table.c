/* SPDX-License-Identifier: MIT */
/*
 * The table of all records of the process, and what each loop keeps. The number of an actor is the
 * index of its record, and above that how often that record has been used: a record whose count is
 * used up is never used again, so no number comes twice. Chunks of records live for ever; each loop
 * has a list of free ones, and the process one that is shared.
 */
#include "actor/actor.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/spin.h"

#include <errno.h>
#include <string.h>

enum {
    CHUNK = FIBRIL__ACTORS_CHUNK, /* records */
    CHUNK_LOG2 = 10,
    CHUNKS = 1 << 16,
    LOOPS = 256,
    FREE_MAX = 1024,       /* that a loop keeps */
    BATCH = 256,           /* that move to or from the shared list at once */
    GENERATIONS = 1 << 24, /* between those of a process and of its child */
};

_Static_assert(CHUNK == 1 << CHUNK_LOG2, "one number twice");

static struct fibril__actor *_Atomic chunks[CHUNKS]; /* release when made */
static struct fibril__actors parts[LOOPS + 1];       /* the last: threads without a loop */

_Thread_local struct fibril__actors *fibril__actors_ready
    __attribute__((tls_model("initial-exec")));

static struct fibril__spin lock = {.shared = true}; /* of the following */
static struct fibril__actor *shared_free;
static uint32_t chunk_count, first_generation;

/* ---- looking up ---- */

static struct fibril__actor *at(uint32_t index)
{
    struct fibril__actor *chunk =
        index >> CHUNK_LOG2 < CHUNKS
            ? atomic_load_explicit(&chunks[index >> CHUNK_LOG2], memory_order_acquire)
            : NULL;
    return chunk ? &chunk[index & (CHUNK - 1)] : NULL;
}

struct fibril__actor *fibril__actor_slot(uint64_t actor)
{
    return at((uint32_t)actor);
}

struct fibril__actor *fibril__actor_find(uint64_t actor, unsigned *ret_number)
{
    struct fibril__actor *a = at((uint32_t)actor);
    if (UNLIKELY(!a || actor == 0 || atomic_load_explicit(&a->id, memory_order_acquire) != actor)) {
        return NULL;
    }
    *ret_number = __atomic_load_n(&a->number, __ATOMIC_RELAXED);
    return a;
}

struct fibril__actor *fibril__actor_here(uint64_t actor)
{
    unsigned number;
    struct fibril__actors *part = fibril__actors_here();
    struct fibril__actor *a = fibril__actor_find(actor, &number);
    return LIKELY(a) && LIKELY(part) && number == (unsigned)(part - parts) ? a : NULL;
}

/* ---- records ---- */

static int grow(void)
{
    if (chunk_count < CHUNKS && chunks[chunk_count]) { /* one that a fork has kept */
        chunk_count++;
    }
    if (chunk_count == CHUNKS) {
        return -ENOMEM;
    }
    struct fibril__actor *chunk = fibril__alloc_zero(CHUNK * sizeof *chunk);
    if (!chunk) {
        return -ENOMEM;
    }
    uint32_t first = chunk_count << CHUNK_LOG2;
    for (uint32_t i = CHUNK; i-- > 0;) {
        if (first + i > 0) { /* number 0 is nobody, and so is its record */
            chunk[i].next_free = shared_free;
            chunk[i].index = first + i;
            chunk[i].generation = first_generation;
            shared_free = &chunk[i];
        }
    }
    atomic_store_explicit(&chunks[chunk_count++], chunk, memory_order_release);
    return 0;
}

/* Moves up to n records from one list to another. */
static unsigned move(struct fibril__actor **from, struct fibril__actor **to, unsigned n)
{
    unsigned moved = 0;
    while (*from && moved < n) {
        struct fibril__actor *a = *from;
        *from = a->next_free;
        a->next_free = *to;
        *to = a;
        moved++;
    }
    return moved;
}

static struct fibril__actor *take_shared(struct fibril__actors *part)
{
    struct fibril__actor *a = NULL;
    fibril__spin_lock(&lock);
    if (shared_free || grow() == 0) {
        a = shared_free;
        shared_free = a->next_free;
        if (part) {
            part->free_count += move(&shared_free, &part->free, BATCH);
        }
    }
    fibril__spin_unlock(&lock);
    return a;
}

static void give_shared(struct fibril__actors *part, unsigned n)
{
    fibril__spin_lock(&lock);
    part->free_count -= move(&part->free, &shared_free, n);
    fibril__spin_unlock(&lock);
}

/* What outlives its tenants stays: the generation, and messages that are on their way to one of
 * them. */
struct fibril__actor *fibril__actor_take(unsigned number)
{
    struct fibril__actors *part = fibril__actors_here();
    struct fibril__actor *a = part ? part->free : NULL;
    if (LIKELY(a)) {
        part->free = a->next_free;
        part->free_count--;
    } else {
        a = take_shared(part && part->keeper ? part : NULL);
        if (!a) {
            return NULL;
        }
    }
    a->fibril = NULL;
    a->node = (struct fibril_embed_node){NULL, NULL};
    a->first = a->last = a->urgent = a->reply = NULL;
    a->spot = (struct fibril_spot){NULL, NULL};
    atomic_store_explicit(&a->bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&a->len, 0, memory_order_relaxed);
    fibril__list_init(&a->bonds);
    fibril__list_init(&a->callers);
    a->calling = (struct fibril__link){NULL, NULL};
    a->extra = NULL;
    a->awaiting = a->last_tag = a->received = 0;
    a->reason = a->call_result = 0;
    a->flags = 0;
    __atomic_store_n(&a->overflow, 0, __ATOMIC_RELAXED);
    atomic_store_explicit(&a->listed, 0, memory_order_relaxed);
    __atomic_store_n(&a->number, (uint8_t)number, __ATOMIC_RELAXED);
    a->generation++;
    atomic_store_explicit(&a->id, (uint64_t)a->generation << 32 | a->index, memory_order_release);
    atomic_fetch_add_explicit(&parts[number].alive, 1, memory_order_relaxed);
    FIBRIL__TALLY(spawned);
    return a;
}

void fibril__actor_give(struct fibril__actor *a)
{
    FIBRIL_ASSERT(!a->extra && !a->first && !a->urgent);
    atomic_fetch_sub_explicit(&parts[a->number].alive, 1, memory_order_relaxed);
    FIBRIL__TALLY(ended);
    if (UNLIKELY(a->generation == UINT32_MAX)) {
        return;
    }
    struct fibril__actors *part = fibril__actors_here();
    a->next_free = part->free;
    part->free = a;
    part->free_count++;
    if (UNLIKELY(part->free_count > FREE_MAX || !part->keeper)) {
        give_shared(part, part->keeper ? BATCH : UINT32_MAX);
    }
}

/* ---- loops ---- */

struct fibril__actors *fibril__actors_of(unsigned number)
{
    return &parts[number];
}

struct fibril__actors *fibril__actors_unready(void)
{
    struct fibril_loop *loop = fibril_loop_current();
    return loop ? &parts[fibril_embed_number(loop)] : NULL;
}

int fibril__actors_open(struct fibril__actors **ret_part)
{
    struct fibril__actors *part = fibril__actors_here();
    if (UNLIKELY(!part)) {
        return -EPERM;
    }
    if (UNLIKELY(!part->keeper)) {
        fibril__actors_watch_forks();
        int rc = fibril__keeper_start(part);
        if (rc < 0) {
            return rc;
        }
        fibril__actors_ready = part;
    }
    *ret_part = part;
    return 0;
}

void fibril__actors_close(struct fibril__actors *part)
{
    fibril__actors_ready = NULL;
    part->keeper = NULL;
    fibril__spares_drop(part);
    give_shared(part, UINT32_MAX);
}

/* The chunk of self stays, with self alone. Its place in the table is skipped by those that are
 * made from now on. */
void fibril__table_forked(struct fibril__actor *self)
{
    for (uint32_t i = 0; i < chunk_count; i++) {
        if (!self || i != self->index >> CHUNK_LOG2) {
            atomic_store(&chunks[i], NULL);
        }
    }
    struct fibril__actor *first = self ? self - (self->index & (CHUNK - 1)) : NULL;
    for (uint32_t i = 0; first && i < CHUNK; i++) {
        if (&first[i] != self) {
            atomic_store(&first[i].id, 0);
        }
    }
    memset(parts, 0, sizeof parts);
    fibril__actors_ready = NULL;
    shared_free = NULL;
    chunk_count = 0;
    first_generation += GENERATIONS;
    lock.held = 0;
    if (self) {
        parts[self->number].alive = 1;
        parts[self->number].spawned = 1;
    }
}

/* Other OS threads than the loop's own only read; those without a loop share the last part. */
void fibril__tally(size_t offset)
{
    struct fibril__actors *part = fibril__actors_here();
    char *base = (char *)(part ? part : &parts[LOOPS]);
    _Atomic uint64_t *figure = (_Atomic uint64_t *)(void *)(base + offset);
    if (part) {
        uint64_t n = atomic_load_explicit(figure, memory_order_relaxed);
        atomic_store_explicit(figure, n + 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(figure, 1, memory_order_relaxed);
    }
}

void fibril_actor_counts(struct fibril_actor_counts *ret_counts)
{
    struct fibril_actor_counts sum = {0};
    for (unsigned i = 0; i <= LOOPS; i++) {
        struct fibril__actors *p = &parts[i];
        sum.spawned += atomic_load_explicit(&p->spawned, memory_order_relaxed);
        sum.ended += atomic_load_explicit(&p->ended, memory_order_relaxed);
        sum.crashed += atomic_load_explicit(&p->crashed, memory_order_relaxed);
        sum.dead_letters += atomic_load_explicit(&p->dead_letters, memory_order_relaxed);
        sum.dropped += atomic_load_explicit(&p->dropped, memory_order_relaxed);
        sum.late_replies += atomic_load_explicit(&p->late_replies, memory_order_relaxed);
    }
    *ret_counts = sum;
}

/* ---- seeing ---- */

bool fibril_actor_alive(uint64_t actor)
{
    unsigned number;
    return fibril__actor_find(actor, &number) != NULL;
}

size_t fibril_actor_list(uint64_t after, uint64_t *ret_actors, size_t n)
{
    size_t found = 0;
    uint32_t index = (uint32_t)after + 1;
    for (struct fibril__actor *a; found < n && (a = at(index)); index++) {
        uint64_t id = atomic_load_explicit(&a->id, memory_order_acquire);
        if (fibril__actor_here(id)) {
            ret_actors[found++] = id;
        }
    }
    return found;
}
