// @ts-check
// The driver `{{name}}`: decides how volhook backs a volume, and which containers may hold it.
//
// A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
// nothing but answer; volhook builds the directory and mounts it. `kit/volhook.d.ts` documents every field of
// questions and answers, and `fixtures/` has questions with the answers that are right.

import { refuse, value } from "./kit/volhook.js";

/** @import { Info, CreateRequest, Creation, AttachRequest, Attachment } from "./kit/volhook.js" */

const MODE = "0755";
const SHARING = "shared";

/**
 * What the driver is, and the options that a claim may give. volhook refuses unknown options and values of the wrong
 * kind itself. A default is for people to read: filling it in is up to `create`.
 * @returns {Info}
 */
export function describe() {
  return {
    name: "{{name}}",
    about: "A directory, for any number of containers or for one at a time",
    options: [
      { name: "mode", kind: { tag: "text" }, default: MODE, about: "The directory's permissions, in octal" },
      {
        name: "sharing",
        kind: { tag: "choice", val: ["shared", "exclusive"] },
        default: SHARING,
        about: "Who may hold it at a time",
      },
    ],
  };
}

/**
 * How to back a volume that does not exist yet.
 * @param {CreateRequest} request
 * @returns {Creation}
 */
export function create(request) {
  const mode = value(request.options, "mode", MODE);
  const sharing = value(request.options, "sharing", SHARING);
  const bits = octal(mode);
  // A refusal is a decision, with words for whoever asked. Any other exception is a bug of this driver.
  if (bits === null) return refuse(`mode "${mode}" is not octal`, "such as 0755");
  return {
    backing: { tag: "directory", val: { mode: bits } },
    // volhook records these with the volume: `attach` gets them back.
    options: [
      ["mode", mode],
      ["sharing", sharing],
    ],
  };
}

/**
 * Whether and how a container may hold a volume.
 * @param {AttachRequest} request
 * @returns {Attachment}
 */
export function attach(request) {
  if (value(request.options, "sharing") !== "exclusive") return { access: request.access, sharing: "shared" };
  // volhook keeps exclusive holders apart whatever a driver says. To refuse here is to say why.
  const [holder] = request.holders;
  if (holder) return refuse(`held by "${holder.container}"`, "stop that container first");
  return { access: request.access, sharing: "exclusive" };
}

/**
 * The permission bits that `text` stands for.
 * @param {string} text
 */
function octal(text) {
  const bits = /^[0-7]+$/.test(text) ? parseInt(text, 8) : Infinity;
  return bits <= 0o7777 ? bits : null;
}
