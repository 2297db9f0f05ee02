// The policy `{{name}}`: decides which volumes a container gets without asking for them.
//
// A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
// nothing but answer; volhook makes the volumes and mounts them. `kit/volhook.h` documents every field of questions
// and answers, `kit/plugin.h` has helpers, and `fixtures/` has questions with the answers that are right.

#include "plugin.h"

#define TARGET TEXT("/cache")

// What the policy is, and the settings that an operator or a container's annotation may give. volhook refuses unknown
// ones itself. A default is for people to read: filling it in is up to policy_claims.
void policy_describe(policy_info_t *info) {
    info->name = TEXT("{{name}}");
    info->about = TEXT("A cache for each pod, which outlives its containers");
    info->settings = OPTIONS({
        .name = TEXT("target"),
        .kind = {.tag = POLICY_OPTION_KIND_TEXT},
        .default_ = SOME(TARGET),
        .about = TEXT("Where the cache appears in the container"),
    });
}

// Which volumes a container gets: fills `grant` and returns true, or refuses.
bool policy_claims(policy_claims_request_t *request, policy_grant_t *grant, policy_refusal_t *refusal) {
    if (!request->container.pod.is_some) {
        // Notes are for the operator: `volhook explain` shows them.
        grant->notes = TEXTS(TEXT("no pod, nothing to give"));
        return true;
    }
    text_t target = value_of(request->settings, TEXT("target"), TARGET);

    // A refusal keeps the container from its start, with words for whoever started it.
    if (!text_starts_with(target, TEXT("/")))
        return refuse(
            refusal, JOIN(TEXT("target \""), target, TEXT("\" is not absolute")), JOIN(TEXT("such as "), TARGET));

    policy_claim_t claim = {
        .volume = JOIN(TEXT("cache-"), request->container.pod.val),
        .member = TEXT("cache"),
        .target = target,
        .driver = SOME(TEXT("local")),
        .access = POLICY_ACCESS_READ_WRITE,
    };
    grant->claims = LIST(policy_list_claim_t, policy_claim_t, claim);
    return true;
}
