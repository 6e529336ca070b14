/* SPDX-License-Identifier: MIT */
/*
 * A main for fuzz targets without libFuzzer: runs every file of the folders and files named on the
 * command line, so that any compiler replays the corpus as an ordinary test. Each input is also run
 * cut short and with a byte changed: a corpus of valid inputs alone would leave the refusals
 * untried.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_BYTES_MAX (1 << 20)
#define VARIANTS 64

static size_t inputs;

static void run_variants(uint8_t *data, size_t size)
{
    LLVMFuzzerTestOneInput(data, size);
    for (size_t i = 0; i < VARIANTS && size > 0; i++) {
        size_t place = i * size / VARIANTS;
        uint8_t kept = data[place];
        LLVMFuzzerTestOneInput(data, place);
        data[place] = (uint8_t)(kept ^ (1u << i % 8));
        LLVMFuzzerTestOneInput(data, size);
        data[place] = kept;
    }
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    int rc = 1;
    if (file == NULL || data == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    } else {
        size_t size = fread(data, 1, INPUT_BYTES_MAX, file);
        run_variants(data, size);
        inputs++;
        rc = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    free(data);
    return rc;
}

static int run_folder(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char name[4096];
    int rc = 0;
    if (dir == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
            rc = run_file(name);
        }
    }
    closedir(dir);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    for (int i = 1; i < argc && rc == 0; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        rc = folder ? run_folder(argv[i]) : run_file(argv[i]);
    }
    printf("%zu inputs replayed, %d variants each\n", inputs, 2 * VARIANTS);
    return rc != 0 || inputs == 0 ? 1 : 0;
}
