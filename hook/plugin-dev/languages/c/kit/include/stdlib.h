// The part of the C library's stdlib.h that a plugin has in the sandbox.
#ifndef VOLHOOK_STDLIB_H
#define VOLHOOK_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);
_Noreturn void abort(void);

#endif
