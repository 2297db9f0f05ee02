// The driver `{{name}}`: decides how volhook backs a volume, and which containers may hold it.
//
// A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
// nothing but answer; volhook builds the directory and mounts it. `kit/volhook.h` documents every field of questions
// and answers, `kit/plugin.h` has helpers, and `fixtures/` has questions with the answers that are right.

#include "plugin.h"

#define MODE TEXT("0755")
#define SHARING TEXT("shared")

// What the driver is, and the options that a claim may give. volhook refuses unknown options and values of the wrong
// kind itself. A default is for people to read: filling it in is up to driver_create.
void driver_describe(driver_info_t *info) {
    info->name = TEXT("{{name}}");
    info->about = TEXT("A directory, for any number of containers or for one at a time");
    info->options = OPTIONS(
        {
            .name = TEXT("mode"),
            .kind = {.tag = DRIVER_OPTION_KIND_TEXT},
            .default_ = SOME(MODE),
            .about = TEXT("The directory's permissions, in octal"),
        },
        {
            .name = TEXT("sharing"),
            .kind = {.tag = DRIVER_OPTION_KIND_CHOICE, .val.choice = TEXTS(TEXT("shared"), TEXT("exclusive"))},
            .default_ = SOME(SHARING),
            .about = TEXT("Who may hold it at a time"),
        });
}

// How to back a volume that does not exist yet: fills `creation` and returns true, or refuses.
bool driver_create(driver_create_request_t *request, driver_creation_t *creation, driver_refusal_t *refusal) {
    text_t mode = value_of(request->options, TEXT("mode"), MODE);
    text_t sharing = value_of(request->options, TEXT("sharing"), SHARING);

    uint32_t bits;
    // A refusal is a decision, with words for whoever asked. VOLHOOK_PANIC("...") is for a bug of this driver.
    if (!parse_octal(mode, 07777, &bits))
        return refuse(refusal, JOIN(TEXT("mode \""), mode, TEXT("\" is not octal")), TEXT("such as 0755"));

    creation->backing.tag = DRIVER_BACKING_DIRECTORY;
    creation->backing.val.directory.mode = bits;
    // volhook records these with the volume: driver_attach gets them back.
    creation->options = PAIRS({TEXT("mode"), mode}, {TEXT("sharing"), sharing});
    return true;
}

// Whether and how a container may hold a volume: fills `attachment` and returns true, or refuses.
bool driver_attach(driver_attach_request_t *request, driver_attachment_t *attachment, driver_refusal_t *refusal) {
    attachment->access = request->access;
    attachment->sharing = DRIVER_SHARING_SHARED;
    if (!text_equal(value_of(request->options, TEXT("sharing"), SHARING), TEXT("exclusive"))) return true;

    // volhook keeps exclusive holders apart whatever a driver says. To refuse here is to say why.
    if (request->holders.len > 0) {
        text_t holder = request->holders.ptr[0].container;
        return refuse(refusal, JOIN(TEXT("held by \""), holder, TEXT("\"")), TEXT("stop that container first"));
    }
    attachment->sharing = DRIVER_SHARING_EXCLUSIVE;
    return true;
}
