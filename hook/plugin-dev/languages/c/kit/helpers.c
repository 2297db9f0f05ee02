// The helpers of plugin.h, for the component and for native runs alike.

#include "plugin.h"

bool text_equal(text_t a, text_t b) { return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0); }

bool text_starts_with(text_t text, text_t start) {
    return text.len >= start.len && text_equal((text_t){text.ptr, start.len}, start);
}

text_t text_of_number(uint64_t number) {
    uint8_t digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number);
    return (text_t){volhook_keep(digits + at, sizeof digits - at), sizeof digits - at};
}

text_t value_of(pairs_t pairs, text_t name, text_t otherwise) {
    for (size_t i = 0; i < pairs.len; i++)
        if (text_equal(pairs.ptr[i].f0, name)) return pairs.ptr[i].f1;
    return otherwise;
}

bool refuse({{kind}}_refusal_t *refusal, text_t reason, text_t hint) {
    refusal->reason = reason;
    refusal->hint = (volhook_option_string_t){hint.len > 0, hint};
    return false;
}

bool parse_octal(text_t text, uint32_t most, uint32_t *number) {
    uint32_t found = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '7' || found > most >> 3) return false;
        found = found << 3 | (uint32_t)(text.ptr[i] - '0');
    }
    *number = found;
    return text.len > 0 && found <= most;
}

bool parse_size(text_t text, uint64_t *bytes) {
    static const char units[] = "KMGTP";
    uint64_t number = 0;
    size_t at = 0;
    for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++) {
        uint64_t digit = (uint64_t)(text.ptr[at] - '0');
        if (number > ((uint64_t)INT64_MAX - digit) / 10) return false;
        number = number * 10 + digit;
    }
    if (at == 0) return false;
    // A unit is one letter, to which "B" or "iB" may be added, in any case.
    char rest[4] = {0};
    if (text.len - at > 3) return false;
    for (size_t i = 0; at + i < text.len; i++) {
        uint8_t letter = text.ptr[at + i] & 0xdf;
        if (letter < 'A' || letter > 'Z') return false;
        rest[i] = (char)letter;
    }
    if (rest[0] && rest[0] != 'B') {
        unsigned power = 0;
        while (units[power] && units[power] != rest[0]) power++;
        bool spelled = !rest[1] || (rest[1] == 'B' && !rest[2]) || (rest[1] == 'I' && rest[2] == 'B');
        if (!units[power] || !spelled) return false;
        for (power++; power > 0; power--) {
            if (number > (uint64_t)INT64_MAX >> 10) return false;
            number <<= 10;
        }
    } else if (rest[0] && rest[1]) {
        return false;
    }
    *bytes = number;
    return number > 0;
}

void *volhook_keep(const void *elements, size_t size) {
    void *kept = malloc(size ? size : 1);
    if (!kept) VOLHOOK_PANIC("out of memory");
    return size ? memcpy(kept, elements, size) : kept;
}

text_t volhook_join(const text_t *parts, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += parts[i].len;
    text_t joined = {malloc(size ? size : 1), 0};
    if (!joined.ptr) VOLHOOK_PANIC("out of memory");
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len) memcpy(joined.ptr + joined.len, parts[i].ptr, parts[i].len);
        joined.len += parts[i].len;
    }
    return joined;
}

// The bindings ask for it so that an object file with the types is linked, which there is none of: volhook writes the
// types into the module after linking.
void __component_type_object_force_link_volhook(void) {}
