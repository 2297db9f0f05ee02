// @ts-check
// The policy `{{name}}`: decides which volumes a container gets without asking for them.
//
// A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
// nothing but answer; volhook makes the volumes and mounts them. `kit/volhook.d.ts` documents every field of questions
// and answers, and `fixtures/` has questions with the answers that are right.

import { refuse, value } from "./kit/volhook.js";

/** @import { Info, ClaimsRequest, Grant } from "./kit/volhook.js" */

const TARGET = "/cache";

/**
 * What the policy is, and the settings that an operator or a container's annotation may give. volhook refuses unknown
 * ones itself. A default is for people to read: filling it in is up to `claims`.
 * @returns {Info}
 */
export function describe() {
  return {
    name: "{{name}}",
    about: "A cache for each pod, which outlives its containers",
    settings: [
      { name: "target", kind: { tag: "text" }, default: TARGET, about: "Where the cache appears in the container" },
    ],
  };
}

/**
 * Which volumes a container gets.
 * @param {ClaimsRequest} request
 * @returns {Grant}
 */
export function claims(request) {
  const { pod } = request.container;
  // Notes are for the operator: `volhook explain` shows them.
  if (pod === null) return { notes: ["no pod, nothing to give"] };
  const target = value(request.settings, "target", TARGET);
  // A refusal keeps the container from its start, with words for whoever started it.
  if (!target.startsWith("/")) return refuse(`target "${target}" is not absolute`, `such as ${TARGET}`);
  return {
    claims: [{ volume: `cache-${pod}`, member: "cache", target, driver: "local", access: "read-write" }],
  };
}
