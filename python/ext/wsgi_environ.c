/* SPDX-License-Identifier: MIT */
/*
 * The environ of a request: a copy of the server's dict, in which all keys that every request has
 * are present already, so the copy neither hashes nor grows; then the values that differ are put
 * in their places.
 */
#include "wsgi.h"

#include <stdio.h>
#include <string.h>

enum { KEPT_VALUE_MAX = 256, PEER_TEXT = 128 };

enum key {
    REQUEST_METHOD,
    PATH_INFO,
    QUERY_STRING,
    REQUEST_URI,
    RAW_URI,
    REMOTE_ADDR,
    REMOTE_PORT,
    SERVER_PROTOCOL,
    HTTP_HOST,
    HTTPS,
    WSGI_INPUT,
    WSGI_URL_SCHEME,
    KEYS,
};

static const char *const key_names[KEYS] = {"REQUEST_METHOD", "PATH_INFO",       "QUERY_STRING",
                                            "REQUEST_URI",    "RAW_URI",         "REMOTE_ADDR",
                                            "REMOTE_PORT",    "SERVER_PROTOCOL", "HTTP_HOST",
                                            "HTTPS",          "wsgi.input",      "wsgi.url_scheme"};
static const char *const method_names[] = {"GET",    "POST",  "HEAD",    "PUT",
                                           "DELETE", "PATCH", "OPTIONS", "TRACE"};
enum { METHODS = sizeof(method_names) / sizeof(method_names[0]) };

/* Made once per process; Python is one interpreter here. */
static PyObject *keys[KEYS], *methods[METHODS], *protocols[2], *empty, *on, *https, *http;
static uint64_t stamp;

int fibril__wsgi_environ_init(void)
{
    bool fine = true;
    for (int i = 0; i < KEYS; i++) {
        fine &= (keys[i] = PyUnicode_InternFromString(key_names[i])) != NULL;
    }
    for (int i = 0; i < METHODS; i++) {
        fine &= (methods[i] = PyUnicode_InternFromString(method_names[i])) != NULL;
    }
    fine &= (protocols[0] = PyUnicode_InternFromString("HTTP/1.0")) != NULL;
    fine &= (protocols[1] = PyUnicode_InternFromString("HTTP/1.1")) != NULL;
    fine &= (empty = PyUnicode_InternFromString("")) != NULL;
    fine &= (on = PyUnicode_InternFromString("on")) != NULL;
    fine &= (http = PyUnicode_InternFromString("http")) != NULL;
    fine &= (https = PyUnicode_InternFromString("https")) != NULL;
    return fine ? 0 : -1;
}

/* ---- the template ---------------------------------------------------------------------------- */

/* Splits "1.2.3.4:80" and "[::1]:80" in place; "unix:..." has neither host nor port. */
static void split_address(char *address, const char **ret_host, const char **ret_port)
{
    char *colon = strrchr(address, ':');
    *ret_host = *ret_port = "";
    if (!colon || strncmp(address, "unix:", 5) == 0) {
        return;
    }
    *colon = '\0';
    *ret_port = colon + 1;
    if (*address == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        address++;
    }
    *ret_host = address;
}

static int put_text(PyObject *dict, const char *key, const char *text)
{
    PyObject *value = PyUnicode_InternFromString(text);
    int rc = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static int put_server(PyObject *dict, const char *address)
{
    char text[PEER_TEXT];
    const char *host, *port;
    snprintf(text, sizeof(text), "%s", address);
    split_address(text, &host, &port);
    int rc = put_text(dict, "SERVER_NAME", *host ? host : "localhost");
    rc |= put_text(dict, "SERVER_PORT", *port ? port : "80");
    rc |= put_text(dict, "SERVER_SOFTWARE", "fibril");
    return rc;
}

PyObject *fibril__wsgi_environ_template(PyObject *script_name, PyObject *errors,
                                        PyObject *file_wrapper, const char *scheme,
                                        const char *address, bool multiprocess)
{
    PyObject *dict = PyDict_New();
    PyObject *version = Py_BuildValue("(ii)", 1, 0);
    int rc = dict && version ? 0 : -1;
    for (int i = 0; rc == 0 && i < KEYS; i++) {
        if (i != HTTPS) {
            rc = PyDict_SetItem(dict, keys[i], empty);
        }
    }
    rc = rc ? rc : put_text(dict, "wsgi.url_scheme", scheme);
    if (rc == 0 && strcmp(scheme, "https") == 0) {
        rc = PyDict_SetItem(dict, keys[HTTPS], on);
    }
    rc = rc ? rc : put_server(dict, address);
    rc = rc ? rc : PyDict_SetItemString(dict, "SCRIPT_NAME", script_name);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.version", version);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.errors", errors);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.multithread", Py_True);
    rc = rc ? rc
            : PyDict_SetItemString(dict, "wsgi.multiprocess", multiprocess ? Py_True : Py_False);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.run_once", Py_False);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.input_terminated", Py_True);
    rc = rc ? rc : PyDict_SetItemString(dict, "wsgi.file_wrapper", file_wrapper);
    Py_XDECREF(version);
    if (rc != 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Takes the reference to value, which may be NULL. */
static int put(PyObject *env, PyObject *key, PyObject *value)
{
    int rc = value ? PyDict_SetItem(env, key, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static PyObject *latin1(const char *text, size_t len)
{
    return len ? PyUnicode_DecodeLatin1(text, (Py_ssize_t)len, NULL) : Py_NewRef(empty);
}

static PyObject *method_of(const char *text)
{
    for (int i = 0; i < METHODS; i++) {
        if (strcmp(text, method_names[i]) == 0) {
            return Py_NewRef(methods[i]);
        }
    }
    return latin1(text, strlen(text));
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87 : -1;
}

/* Where the path of a target begins: behind the scheme and host that a proxy's request has. */
static const char *path_of(const char *target)
{
    if (*target == '/' || *target == '*') {
        return target;
    }
    const char *authority = strstr(target, "://");
    return authority ? authority + 3 + strcspn(authority + 3, "/?") : target;
}

/* The path decoded, otherwise as it was sent: what looks redundant in it may mean something to the
 * application. The server has refused what cannot be decoded. */
static PyObject *path_info(const char *path, size_t len, size_t script_len)
{
    if (!memchr(path, '%', len)) {
        return len > script_len ? latin1(path + script_len, len - script_len) : Py_NewRef(empty);
    }
    char small[512], *text = len <= sizeof(small) ? small : PyMem_Malloc(len);
    if (!text) {
        return PyErr_NoMemory();
    }
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        char c = path[i];
        if (c == '%' && i + 2 < len && digit_of(path[i + 1]) >= 0 && digit_of(path[i + 2]) >= 0) {
            c = (char)(digit_of(path[i + 1]) * 16 + digit_of(path[i + 2]));
            i += 2;
        }
        text[out++] = c;
    }
    PyObject *value =
        out > script_len ? latin1(text + script_len, out - script_len) : Py_NewRef(empty);
    if (text != small) {
        PyMem_Free(text);
    }
    return value;
}

/* How much of the path is the application's mount point. */
static size_t script_length(const struct fibril__wsgi_request *r, const char *path, size_t len)
{
    Py_ssize_t script_len;
    const char *script = PyUnicode_AsUTF8AndSize(r->server->script_name, &script_len);
    size_t n = (size_t)script_len;
    bool inside =
        script && n > 0 && len >= n && memcmp(path, script, n) == 0 && (len == n || path[n] == '/');
    return inside ? n : 0;
}

static int put_target(struct fibril__wsgi_request *r, PyObject *env)
{
    const char *target = fibril_http_target(r->http), *query = fibril_http_query(r->http);
    const char *path = path_of(target);
    size_t target_len = strlen(target), path_len = strcspn(path, "?");
    PyObject *uri = latin1(target, target_len);
    int rc = uri ? PyDict_SetItem(env, keys[REQUEST_URI], uri) : -1;
    rc |= put(env, keys[RAW_URI], uri);
    PyObject *info = path_len ? path_info(path, path_len, script_length(r, path, path_len))
                              : PyUnicode_FromString("/");
    rc |= put(env, keys[PATH_INFO], info);
    if (query && *query) {
        rc |= put(env, keys[QUERY_STRING], latin1(query, strlen(query)));
    }
    return rc;
}

/* ---- headers --------------------------------------------------------------------------------- */

/* What the headers say that is needed after them. */
struct forwarded {
    const char *list, *proto;
};

static PyObject *value_of(struct fibril__wsgi_name *name, const char *text)
{
    size_t len = strlen(text);
    PyObject *kept = name->value;
    if (kept && (size_t)PyUnicode_GET_LENGTH(kept) == len &&
        memcmp(PyUnicode_1BYTE_DATA(kept), text, len) == 0) {
        return Py_NewRef(kept);
    }
    PyObject *value = latin1(text, len);
    bool keep = name->kind != FIBRIL__WSGI_COOKIE && name->kind != FIBRIL__WSGI_SECRET;
    if (value && keep && len <= KEPT_VALUE_MAX) {
        Py_XSETREF(name->value, Py_NewRef(value));
    }
    return value;
}

/* A header that came several times is one value with commas. */
static PyObject *joined(PyObject *env, const struct fibril__wsgi_name *name, PyObject *value)
{
    PyObject *before = PyDict_GetItemWithError(env, name->key);
    if (!before || !value) {
        return value;
    }
    PyObject *both =
        PyUnicode_FromFormat(name->kind == FIBRIL__WSGI_COOKIE ? "%U; %U" : "%U,%U", before, value);
    Py_DECREF(value);
    return both;
}

static int put_header(struct fibril__wsgi_request *r, PyObject *env, struct fibril__wsgi_name *name,
                      const char *text, struct forwarded *said)
{
    switch (name->kind) {
    case FIBRIL__WSGI_DROPPED: return 0;
    case FIBRIL__WSGI_FORWARDED_FOR: said->list = text; break;
    case FIBRIL__WSGI_FORWARDED_PROTO: said->proto = text; break;
    default: break;
    }
    PyObject *value = value_of(name, text);
    if (name->stamp == stamp) {
        value = joined(env, name, value);
    }
    name->stamp = stamp;
    return put(env, name->key, value);
}

static int put_headers(struct fibril__wsgi_request *r, PyObject *env, struct forwarded *said)
{
    const char *raw, *text;
    stamp++;
    for (size_t i = 0; fibril_http_header_at(r->http, i, &raw, &text); i++) {
        struct fibril__wsgi_name *own = NULL;
        struct fibril__wsgi_name *name = fibril__wsgi_name_of(r->server->names, raw, &own);
        if (!name) {
            return -1;
        }
        name->stamp =
            own && PyDict_Contains(env, own->key ? own->key : empty) == 1 ? stamp : name->stamp;
        int rc = put_header(r, env, name, text, said);
        fibril__wsgi_name_free(own);
        if (rc < 0) {
            return -1;
        }
    }
    if (!*fibril_http_host(r->http)) {
        return PyDict_DelItem(env, keys[HTTP_HOST]);
    }
    return 0;
}

/* ---- the peer -------------------------------------------------------------------------------- */

static int put_scheme(PyObject *env, const char *proto)
{
    bool secure = strcasecmp(proto, "https") == 0;
    if (!secure && strcasecmp(proto, "http") != 0) {
        return 0;
    }
    int rc = PyDict_SetItem(env, keys[WSGI_URL_SCHEME], secure ? https : http);
    return rc || !secure ? rc : PyDict_SetItem(env, keys[HTTPS], on);
}

/* Most requests come from one address: a proxy's, or the same client's as before. */
static PyObject *address_of(struct fibril__wsgi_server *server, const char *text)
{
    size_t len = strlen(text);
    PyObject *last = server->last_address;
    if (last && (size_t)PyUnicode_GET_LENGTH(last) == len &&
        memcmp(PyUnicode_1BYTE_DATA(last), text, len) == 0) {
        return Py_NewRef(last);
    }
    PyObject *address = latin1(text, len);
    Py_XSETREF(server->last_address, Py_XNewRef(address));
    return address;
}

static int put_peer(struct fibril__wsgi_request *r, PyObject *env, const struct forwarded *said)
{
    struct fibril__wsgi_server *server = r->server;
    char text[PEER_TEXT], client[PEER_TEXT];
    const char *address, *port;
    if (fibril_http_peer(r->http, text, sizeof(text)) < 0) {
        text[0] = '\0';
    }
    split_address(text, &address, &port);
    bool believed = (said->list || said->proto) && fibril__wsgi_nets_have(server->nets, address);
    if (believed && said->list &&
        fibril__wsgi_forwarded_for(server->nets, said->list, client, sizeof(client))) {
        address = client;
        port = "";
    }
    int rc = put(env, keys[REMOTE_ADDR], address_of(server, address));
    rc |= put(env, keys[REMOTE_PORT], latin1(port, strlen(port)));
    return believed && said->proto ? rc | put_scheme(env, said->proto) : rc;
}

PyObject *fibril__wsgi_environ_new(struct fibril__wsgi_request *r)
{
    struct forwarded said = {NULL, NULL};
    PyObject *env = PyDict_Copy(r->server->environ);
    if (!env) {
        return NULL;
    }
    int rc = put(env, keys[REQUEST_METHOD], method_of(fibril_http_method(r->http)));
    rc |= PyDict_SetItem(env, keys[SERVER_PROTOCOL],
                         protocols[fibril_http_version_minor(r->http) > 0]);
    rc |= PyDict_SetItem(env, keys[WSGI_INPUT], r->input);
    rc = rc ? rc : put_target(r, env);
    rc = rc ? rc : put_headers(r, env, &said);
    rc = rc ? rc : put_peer(r, env, &said);
    if (rc != 0) {
        Py_CLEAR(env);
    }
    return env;
}
