// What a C library would bring: memory, and the end of a plugin that cannot go on. Only in the component.

#include "plugin.h"

#define PAGE 65536
#define ALIGN 16

// Where the data that the linker lays out ends.
extern uint8_t __heap_base;

static uintptr_t heap;

// In front of each block, so that it can be copied when it grows.
typedef struct {
    size_t size;
    uint8_t padding[ALIGN - sizeof(size_t)];
} head_t;

void *malloc(size_t size) {
    if (heap == 0) heap = ((uintptr_t)&__heap_base + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1);
    if (size > UINT32_MAX / 2) return NULL;
    uintptr_t end = heap + sizeof(head_t) + ((size + ALIGN - 1) & ~(size_t)(ALIGN - 1));
    size_t pages = __builtin_wasm_memory_size(0);
    if (end > pages * PAGE) {
        size_t missing = (end - pages * PAGE + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, missing) == (size_t)-1) return NULL;
    }
    head_t *head = (head_t *)heap;
    head->size = size;
    heap = end;
    return head + 1;
}

void *calloc(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *block = malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
}

void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    size_t old = ((head_t *)block - 1)->size;
    if (size <= old) return block;
    void *larger = malloc(size);
    return larger ? memcpy(larger, block, old) : NULL;
}

void free(void *block) { (void)block; }

// Where the host finds the message of a plugin that has ended itself.
struct {
    const char *ptr;
    size_t len;
} __VOLHOOK_PANIC __attribute__((used, visibility("default")));

_Noreturn void volhook_panic(const char *message) {
    __VOLHOOK_PANIC.ptr = message;
    __VOLHOOK_PANIC.len = strlen(message);
    __builtin_trap();
}

_Noreturn void abort(void) { volhook_panic("abort"); }

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    while (size--) *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t < f)
        while (size--) *t++ = *f++;
    else
        while (size--) t[size] = f[size];
    return to;
}

void *memset(void *to, int byte, size_t size) {
    uint8_t *t = to;
    while (size--) *t++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const uint8_t *x = a, *y = b;
    for (; size--; x++, y++)
        if (*x != *y) return *x - *y;
    return 0;
}

void *memchr(const void *in, int byte, size_t size) {
    for (const uint8_t *at = in; size--; at++)
        if (*at == (uint8_t)byte) return (void *)at;
    return NULL;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t size) {
    for (; size--; a++, b++)
        if (*a != *b || !*a) return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strchr(const char *text, int letter) {
    for (;; text++) {
        if (*text == (char)letter) return (char *)text;
        if (!*text) return NULL;
    }
}
