// Runs the plugin outside the sandbox: reads a question per line from standard input, answers in a line on standard
// output. `volhook plugin test` talks to it; so can a debugger: gdb --args build/native, then run < question.json.

#include "plugin.h"

#include <setjmp.h>
#include <stdio.h>

// A plugin of one kind needs only a part of this.
#pragma GCC diagnostic ignored "-Wunused-function"

// What the address sanitizer is told: a plugin frees nothing, and need not.
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

// A value of JSON. Elements of a list and members of an object are chained.
typedef struct json {
    char type; // '{', '[', '"', '0', 't', 'f' or 'n'
    text_t text;
    text_t key;
    uint64_t number;
    struct json *first;
    struct json *next;
} json_t;

// Where a call ends that goes wrong, and why.
static jmp_buf fault;
static const char *fault_text;

_Noreturn void volhook_panic(const char *message) {
    fault_text = message;
    longjmp(fault, 1);
}

// Not text_t: a pointer to just as much memory as was asked for lets the sanitizer see every step beyond it.
static void *json_take(size_t size) {
    void *block = calloc(size ? size : 1, 1);
    if (!block) VOLHOOK_PANIC("out of memory");
    return block;
}

static _Noreturn void json_wrong(const char *what) {
    static char message[200];
    snprintf(message, sizeof message, "the question or the answer has a wrong %s", what);
    volhook_panic(message);
}

static const uint8_t *at;

static void json_space(void) {
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
}

static uint32_t json_hex(void) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++, at++) {
        uint8_t letter = *at | 0x20;
        if (*at >= '0' && *at <= '9')
            code = code << 4 | (uint32_t)(*at - '0');
        else if (letter >= 'a' && letter <= 'f')
            code = code << 4 | (uint32_t)(letter - 'a' + 10);
        else
            json_wrong("text");
    }
    return code;
}

static size_t json_utf8(uint32_t code, uint8_t *to) {
    if (code < 0x80) return to[0] = (uint8_t)code, 1;
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (uint8_t)(lead[more] | code >> (6 * more));
    for (size_t i = 1; i <= more; i++) to[i] = (uint8_t)(0x80 | (code >> (6 * (more - i)) & 0x3f));
    return more + 1;
}

static text_t json_parse_text(void) {
    const uint8_t *end = ++at;
    while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
    // No escape is shorter than what it stands for.
    uint8_t *buffer = json_take((size_t)(end - at));
    size_t length = 0;
    while (at < end) {
        if (*at != '\\') {
            buffer[length++] = *at++;
            continue;
        }
        static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        at++;
        const char *escape = strchr(escapes, *at);
        if (*at && escape) {
            buffer[length++] = (uint8_t)meant[escape - escapes];
            at++;
        } else if (*at == 'u') {
            at++;
            uint32_t code = json_hex();
            if (code >> 10 == 0x36 && at[0] == '\\' && at[1] == 'u') {
                at += 2;
                code = 0x10000 + ((code & 0x3ff) << 10) + (json_hex() & 0x3ff);
            }
            length += json_utf8(code, buffer + length);
        } else {
            json_wrong("text");
        }
    }
    if (*at != '"') json_wrong("text");
    at++;
    text_t text = {length ? volhook_keep(buffer, length) : NULL, length};
    free(buffer);
    return text;
}

static json_t *json_parse(void) {
    json_t *json = json_take(sizeof *json);
    json_space();
    json->type = (char)*at;
    if (*at == '{' || *at == '[') {
        char end = *at == '{' ? '}' : ']';
        json_t **last = &json->first;
        at++;
        json_space();
        while (*at && *at != end) {
            text_t key = {NULL, 0};
            if (end == '}') {
                json_space();
                if (*at != '"') json_wrong("object");
                key = json_parse_text();
                json_space();
                if (*at++ != ':') json_wrong("object");
            }
            *last = json_parse();
            (*last)->key = key;
            last = &(*last)->next;
            json_space();
            if (*at == ',') at++;
        }
        if (*at++ != end) json_wrong("list");
    } else if (*at == '"') {
        json->text = json_parse_text();
    } else if (*at >= '0' && *at <= '9') {
        char *end;
        json->type = '0';
        json->number = strtoull((const char *)at, &end, 10);
        at = (const uint8_t *)end;
    } else if (*at == 't' || *at == 'f' || *at == 'n') {
        while (*at >= 'a' && *at <= 'z') at++;
    } else {
        json_wrong("value");
    }
    return json;
}

static bool json_is_some(const json_t *json) { return json && json->type != 'n'; }

static const json_t *json_get(const json_t *json, const char *key) {
    if (!json || json->type != '{') return NULL;
    text_t wanted = {(uint8_t *)key, strlen(key)};
    const json_t *member = json->first;
    while (member && !text_equal(member->key, wanted)) member = member->next;
    return member;
}

static size_t json_count(const json_t *json) {
    size_t count = 0;
    for (const json_t *element = json ? json->first : NULL; element; element = element->next) count++;
    return count;
}

static const json_t *json_at(const json_t *json, size_t index) {
    const json_t *element = json ? json->first : NULL;
    while (element && index--) element = element->next;
    return element;
}

static bool json_is(const json_t *json, const char *text) {
    return json && json->type == '"' && text_equal(json->text, (text_t){(uint8_t *)text, strlen(text)});
}

static void json_read_string(const json_t *json, text_t *to) {
    if (json && json->type == '"') *to = json->text;
}

static bool json_read_bool(const json_t *json) { return json && json->type == 't'; }

static uint64_t json_read_u64(const json_t *json) { return json && json->type == '0' ? json->number : 0; }

// The answer so far: nothing is printed before it is whole.
static struct {
    char *text;
    size_t length;
    size_t room;
} answer;

static void json_put(const void *bytes, size_t length) {
    if (answer.length + length > answer.room) {
        answer.room = (answer.length + length) * 2;
        answer.text = realloc(answer.text, answer.room);
        if (!answer.text) abort();
    }
    if (length) memcpy(answer.text + answer.length, bytes, length);
    answer.length += length;
}

static void json_raw(const char *text) { json_put(text, strlen(text)); }

// The bytes of the letter at the beginning of a text in UTF-8; 0 where there is none.
static size_t json_letter(const uint8_t *text, size_t length) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
    if (size == 0 || size > length) return 0;
    uint32_t code = size == 1 ? text[0] : text[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if (text[i] >> 6 != 2) return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    return code >= least[size] && code <= 0x10ffff && code >> 11 != 0x1b ? size : 0;
}

static void json_write_string(const text_t *text) {
    json_raw("\"");
    for (size_t i = 0; i < text->len;) {
        uint8_t byte = text->ptr[i];
        size_t size = json_letter(text->ptr + i, text->len - i);
        if (size == 0) volhook_panic("a text of the answer is not UTF-8");
        if (byte == '"' || byte == '\\') {
            char escape[] = {'\\', (char)byte};
            json_put(escape, 2);
        } else if (byte < 0x20) {
            char escape[7];
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            json_raw(escape);
        } else {
            json_put(text->ptr + i, size);
        }
        i += size;
    }
    json_raw("\"");
}

static void json_write_u64(uint64_t number) {
    text_t digits = text_of_number(number);
    json_put(digits.ptr, digits.len);
}

#include "json_types.h"

int main(void) {
    static char *line;
    static size_t room;
    while (getline(&line, &room, stdin) > 0) {
        answer.length = 0;
        if (setjmp(fault) == 0) {
            at = (const uint8_t *)line;
            json_answer(json_parse());
        } else {
            text_t text = {(uint8_t *)fault_text, strlen(fault_text)};
            answer.length = 0;
            json_raw("{\"fault\":");
            json_write_string(&text);
            json_raw("}");
        }
        json_raw("\n");
        fwrite(answer.text, 1, answer.length, stdout);
        fflush(stdout);
    }
    return 0;
}
