/* SPDX-License-Identifier: MIT */
/*
 * The test harness. A program is any number of TEST(name) { ... } blocks; each registers itself,
 * and the main in test.c runs every one in a process of its own with a time limit and prints TAP.
 *
 *     TEST(mutex_is_handed_to_the_first_waiter)
 *     {
 *         ASSERT_OK(fibril_run(...));
 *     }
 *
 * PROGRAM runs all, PROGRAM --list names them, PROGRAM NAME runs one in this very process (for gdb;
 * a failed assertion aborts there). Assertions may be used on any fibril, stack or thread: a
 * failure ends the test's process on the spot and unwinds nothing.
 *
 * Rejected: cmocka, which leaves a failed assertion by longjmp. That is no way out of another
 * stack.
 */
#ifndef FIBRIL_TESTS_TEST_H
#define FIBRIL_TESTS_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test_case {
    const char *name;
    const char *file;
    int line;
    int limit_seconds; /* before FIBRIL_TEST_TIMEOUT_MULTIPLIER */
    void (*body)(void);
    struct test_case *next;
};

#define TEST_LIMIT_SECONDS 30

/* One test with the usual limit, or with a limit of its own. */
#define TEST(test_name) TEST_WITHIN(test_name, TEST_LIMIT_SECONDS)
#define TEST_WITHIN(test_name, seconds)                                                            \
    static void test_body_##test_name(void);                                                       \
    static struct test_case test_case_##test_name = {                                              \
        #test_name, __FILE__, __LINE__, (seconds), test_body_##test_name, NULL};                   \
    __attribute__((constructor)) static void test_register_##test_name(void)                       \
    {                                                                                              \
        test_register(&test_case_##test_name);                                                     \
    }                                                                                              \
    static void test_body_##test_name(void)

#define ASSERT(x)                                                                                  \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            test_fail(__FILE__, __LINE__, "ASSERT(%s)", #x);                                       \
        }                                                                                          \
    } while (0)

/* Integers and pointers; a floating-point argument does not compile. */
#define ASSERT_EQ(a, b) TEST_COMPARE(a, ==, b)
#define ASSERT_NE(a, b) TEST_COMPARE(a, !=, b)
#define ASSERT_LT(a, b) TEST_COMPARE(a, <, b)
#define ASSERT_LE(a, b) TEST_COMPARE(a, <=, b)
#define ASSERT_GT(a, b) TEST_COMPARE(a, >, b)
#define ASSERT_GE(a, b) TEST_COMPARE(a, >=, b)

#define ASSERT_STR(a, b) test_assert_str(__FILE__, __LINE__, #a, #b, (a), (b))
#define ASSERT_MEM(a, b, bytes) test_assert_mem(__FILE__, __LINE__, #a, #b, (a), (b), (bytes))

/* A call that must succeed (>= 0), and one that must fail with just this negative errno. */
#define ASSERT_OK(rc) test_assert_ok(__FILE__, __LINE__, #rc, (long long)(rc))
#define ASSERT_ERR(rc, error) test_assert_err(__FILE__, __LINE__, #rc, (long long)(rc), (error))

/* Ends the test as skipped. */
#define SKIP(why) test_skip(why)

/* Runs the statement in a fork, which must die by SIGABRT with `text` somewhere on its stderr. */
#define EXPECT_ABORT(statement, text)                                                              \
    do {                                                                                           \
        struct test_death test_death_;                                                             \
        if (test_death_begin(&test_death_)) {                                                      \
            statement;                                                                             \
            test_death_survived();                                                                 \
        }                                                                                          \
        test_death_check(&test_death_, __FILE__, __LINE__, #statement, (text));                    \
    } while (0)

/* FIBRIL_TEST_LONG=1, from ./dev test --long: whole runs where the usual ones are shortened. */
bool test_is_long(void);

/* A sanitizer, valgrind or an emulator is in the way: use smaller numbers. */
bool test_is_slow(void);

/* On valgrind, which answers setrlimit(RLIMIT_NOFILE) itself and then enforces nothing. */
bool test_is_valgrind(void);

/* What the macros above stand on. */
struct test_death {
    int pid;
    int stderr_read;
};

void test_register(struct test_case *test);
_Noreturn void test_skip(const char *why);
_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void test_assert_str(const char *file, int line, const char *expression_a, const char *expression_b,
                     const char *a, const char *b);
void test_assert_mem(const char *file, int line, const char *expression_a, const char *expression_b,
                     const void *a, const void *b, size_t bytes);
void test_assert_ok(const char *file, int line, const char *expression, long long rc);
void test_assert_err(const char *file, int line, const char *expression, long long rc, int error);
bool test_death_begin(struct test_death *death);
_Noreturn void test_death_survived(void);
void test_death_check(struct test_death *death, const char *file, int line, const char *statement,
                      const char *text);

#define TEST_IS_INTEGER(a)                                                                         \
    _Static_assert(_Generic((a), float : 0, double : 0, long double : 0, default : 1),             \
                   "compare integers or pointers")
#define TEST_COMPARE(a, op, b)                                                                     \
    do {                                                                                           \
        TEST_IS_INTEGER(a);                                                                        \
        TEST_IS_INTEGER(b);                                                                        \
        intmax_t test_a_ = (intmax_t)(a);                                                          \
        intmax_t test_b_ = (intmax_t)(b);                                                          \
        if (!(test_a_ op test_b_)) {                                                               \
            test_fail(__FILE__, __LINE__, "%s " #op " %s: %jd, %jd", #a, #b, test_a_, test_b_);    \
        }                                                                                          \
    } while (0)

#endif
