// What a plugin in C is written with: the types and functions of the interface, and small helpers for texts, lists
// and refusals.
//
// A text is a pointer and a length in UTF-8, without a zero byte at its end. An answer is all zero when a function
// gets it: lists are empty and options none until they are set. Memory from malloc lives until the answer is out; free
// does nothing, because an instance of a plugin lives for one call.
#ifndef VOLHOOK_PLUGIN_H
#define VOLHOOK_PLUGIN_H

#include "volhook.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef volhook_string_t text_t;
typedef {{kind}}_list_pair_t pairs_t;

// A literal as a text.
#define TEXT(literal) ((text_t){(uint8_t *)("" literal), sizeof(literal) - 1})

// An optional text that is given.
#define SOME(text) ((volhook_option_string_t){true, (text)})

// A list of given elements, which outlives the function: LIST({{kind}}_list_pair_t, {{kind}}_pair_t, {a, b}, {c, d}).
#define LIST(list, element, ...)                                                                                       \
    ((list){volhook_keep((const element[]){__VA_ARGS__}, sizeof((const element[]){__VA_ARGS__})),                      \
            sizeof((const element[]){__VA_ARGS__}) / sizeof(element)})

// Lists that answers often have.
#define PAIRS(...) LIST({{kind}}_list_pair_t, {{kind}}_pair_t, __VA_ARGS__)
#define TEXTS(...) LIST(volhook_list_string_t, text_t, __VA_ARGS__)
#define OPTIONS(...) LIST({{kind}}_list_option_info_t, {{kind}}_option_info_t, __VA_ARGS__)

// All the given texts as one: JOIN(TEXT("held by "), name).
#define JOIN(...) volhook_join((const text_t[]){__VA_ARGS__}, sizeof((const text_t[]){__VA_ARGS__}) / sizeof(text_t))

// Ends the call: a bug of the plugin, with a message for its author. A decision against is a refusal.
#define VOLHOOK_PANIC(message) volhook_panic("" message " at " __FILE__ ":" VOLHOOK_TEXT_OF(__LINE__))

// Whether two texts are the same.
bool text_equal(text_t a, text_t b);

// Whether a text begins with another.
bool text_starts_with(text_t text, text_t start);

// A number in decimal.
text_t text_of_number(uint64_t number);

// The value of the pair of this name among options, labels or settings; `otherwise` where there is none.
text_t value_of(pairs_t pairs, text_t name, text_t otherwise);

// Fills a refusal and returns false, as a function does that refuses. A hint without length is none.
bool refuse({{kind}}_refusal_t *refusal, text_t reason, text_t hint);

// Reads a whole number in octal of at most `most`; false for anything else.
bool parse_octal(text_t text, uint32_t most, uint32_t *number);

// Reads an amount of storage such as 512M or 10G in bytes, units being powers of 1024. False for anything else, for 0
// and for more than INT64_MAX.
bool parse_size(text_t text, uint64_t *bytes);

// What the macros above use.
#define VOLHOOK_TEXT_OF(value) VOLHOOK_TEXT_OF_(value)
#define VOLHOOK_TEXT_OF_(value) #value
void *volhook_keep(const void *elements, size_t size);
text_t volhook_join(const text_t *parts, size_t count);
_Noreturn void volhook_panic(const char *message);

#endif
