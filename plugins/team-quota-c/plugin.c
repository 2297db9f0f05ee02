// The example driver `team-quota` in C: volumes with a size, and a limit for what the volumes of a team may have
// together. It decides as plugins/team-quota does, whose fixtures are its fixtures.

#include "plugin.h"

// The size of a volume that asks for none.
#define SIZE TEXT("1G")
// What a team may have where the operator has not said.
#define LIMIT TEXT("10G")
// The smallest ext4 with a journal, in bytes.
#define SMALLEST (8 << 20)

// Bytes for people, rounded down to tenths of a unit: `1.5G`.
static text_t rounded(uint64_t bytes) {
    static const char units[] = "KMGTP";
    for (int unit = 4; unit >= 0; unit--) {
        int shift = 10 * (unit + 1);
        uint64_t whole = bytes >> shift;
        if (whole == 0) continue;
        text_t name = {(uint8_t *)&units[unit], 1};
        uint64_t tenth = ((bytes - (whole << shift)) * 10) >> shift;
        if (tenth == 0) return JOIN(text_of_number(whole), name);
        return JOIN(text_of_number(whole), TEXT("."), text_of_number(tenth), name);
    }
    return text_of_number(bytes);
}

void driver_describe(driver_info_t *info) {
    info->name = TEXT("team-quota");
    info->about = TEXT("A volume with a size, within what its team may have");
    info->options = OPTIONS({
        .name = TEXT("size"),
        .kind = {.tag = DRIVER_OPTION_KIND_SIZE},
        .default_ = SOME(SIZE),
        .about = TEXT("The most that the volume can hold, 8M or more"),
    });
    info->settings = OPTIONS(
        {
            .name = TEXT("default"),
            .kind = {.tag = DRIVER_OPTION_KIND_SIZE},
            .default_ = SOME(LIMIT),
            .about = TEXT("What a team may have that has no entry in teams"),
        },
        {
            .name = TEXT("teams"),
            .kind = {.tag = DRIVER_OPTION_KIND_TABLE},
            .about = TEXT("What a team may have, such as teams.web = \"50G\""),
        });
}

bool driver_create(driver_create_request_t *request, driver_creation_t *creation, driver_refusal_t *refusal) {
    text_t team = value_of(request->labels, TEXT("team"), TEXT(""));
    if (team.len == 0)
        return refuse(refusal, TEXT("the volume has no label team"),
                      TEXT("say whose it is: volume-label=team=NAME, or --label team=NAME on the command line"));

    text_t text = value_of(request->options, TEXT("size"), SIZE);
    uint64_t size;
    if (!parse_size(text, &size))
        return refuse(refusal, JOIN(TEXT("size \""), text, TEXT("\" is no amount of storage")),
                      TEXT("a whole number with a unit, such as 512M or 10G"));
    if (size < SMALLEST)
        return refuse(refusal, JOIN(TEXT("a size of "), text, TEXT(" is too small for ext4")),
                      TEXT("give a size of 8M or more"));

    // An operator may have written anything into the table.
    text_t name = JOIN(TEXT("teams."), team);
    text_t limit_text = value_of(request->settings, name, TEXT(""));
    bool own = false;
    for (size_t i = 0; i < request->settings.len; i++) own |= text_equal(request->settings.ptr[i].f0, name);
    if (!own) {
        name = TEXT("default");
        limit_text = value_of(request->settings, name, LIMIT);
    }
    uint64_t limit;
    if (!parse_size(limit_text, &limit))
        return refuse(refusal,
                      JOIN(TEXT("the setting "), name, TEXT(" is \""), limit_text,
                           TEXT("\", which is no amount of storage")),
                      TEXT("mend [plugins.team-quota] in the configuration of volhook"));

    uint64_t used = 0;
    for (size_t i = 0; i < request->usage.labels.len; i++) {
        driver_label_usage_t *usage = &request->usage.labels.ptr[i];
        if (!text_equal(usage->label.f0, TEXT("team")) || !text_equal(usage->label.f1, team)) continue;
        used = usage->bytes;
        break;
    }
    uint64_t left = used < limit ? limit - used : 0;
    if (size > left) {
        text_t reason = JOIN(TEXT("team \""), team, TEXT("\" uses "), rounded(used), TEXT(" of "), rounded(limit),
                             TEXT(", and "), rounded(size), TEXT(" more would be too much"));
        if (left < SMALLEST)
            return refuse(refusal, reason,
                          JOIN(TEXT("remove volumes of the team: volhook volume ls --filter label=team="), team));
        return refuse(refusal, reason,
                      JOIN(TEXT("ask for "), text_of_number(left >> 20),
                           TEXT("M or less, or remove volumes of the team")));
    }

    creation->backing.tag = DRIVER_BACKING_IMAGE;
    creation->backing.val.image.size = size;
    creation->backing.val.image.filesystem = DRIVER_FILESYSTEM_EXT4;
    creation->backing.val.image.root.mode = 0755;
    creation->options = PAIRS({TEXT("size"), text});
    creation->limit = (volhook_option_u64_t){true, size};
    // Any number of containers may hold it, whatever they are: attach need not be asked.
    creation->sharing = (driver_option_sharing_t){true, DRIVER_SHARING_SHARED};
    creation->notes = TEXTS(
        JOIN(TEXT("team \""), team, TEXT("\" now uses "), rounded(used + size), TEXT(" of "), rounded(limit)));
    return true;
}

bool driver_attach(driver_attach_request_t *request, driver_attachment_t *attachment, driver_refusal_t *refusal) {
    (void)refusal;
    attachment->access = request->access;
    attachment->sharing = DRIVER_SHARING_SHARED;
    return true;
}
