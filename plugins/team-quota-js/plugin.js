// @ts-check
// The example driver `team-quota` in JavaScript: volumes with a size, and a limit for what the volumes of a team may
// have together. It decides as plugins/team-quota does, whose fixtures are its fixtures.

import { parseSize, refuse, Refused, value } from "./kit/volhook.js";

/** @import { Info, CreateRequest, Creation, AttachRequest, Attachment, Pair } from "./kit/volhook.js" */

/** The size of a volume that asks for none. */
const SIZE = "1G";
/** What a team may have where the operator has not said. */
const LIMIT = "10G";
/** The smallest ext4 with a journal, in bytes. */
const SMALLEST = 8 * 1024 ** 2;

/** @returns {Info} */
export function describe() {
  return {
    name: "team-quota",
    about: "A volume with a size, within what its team may have",
    options: [
      {
        name: "size",
        kind: { tag: "size" },
        default: SIZE,
        about: "The most that the volume can hold, 8M or more",
      },
    ],
    settings: [
      {
        name: "default",
        kind: { tag: "size" },
        default: LIMIT,
        about: "What a team may have that has no entry in teams",
      },
      { name: "teams", kind: { tag: "table" }, about: 'What a team may have, such as teams.web = "50G"' },
    ],
  };
}

/**
 * @param {CreateRequest} request
 * @returns {Creation}
 */
export function create(request) {
  const team = value(request.labels, "team");
  if (!team) {
    return refuse(
      "the volume has no label team",
      "say whose it is: volume-label=team=NAME, or --label team=NAME on the command line",
    );
  }
  const text = value(request.options, "size", SIZE);
  const hint = "a whole number with a unit, such as 512M or 10G";
  const size = amount(text, `size "${text}" is no amount of storage`, hint);
  if (size < SMALLEST) return refuse(`a size of ${text} is too small for ext4`, "give a size of 8M or more");
  const limit = limitOf(request.settings, team);
  const used = request.usage.labels.find(({ label }) => label[0] === "team" && label[1] === team)?.bytes ?? 0;
  const left = Math.max(0, limit - used);
  if (size > left) {
    return refuse(
      `team "${team}" uses ${rounded(used)} of ${rounded(limit)}, and ${rounded(size)} more would be too much`,
      left < SMALLEST
        ? `remove volumes of the team: volhook volume ls --filter label=team=${team}`
        : `ask for ${Math.floor(left / 1024 ** 2)}M or less, or remove volumes of the team`,
    );
  }
  return {
    backing: { tag: "image", val: { size, filesystem: "ext4", root: { mode: 0o755 } } },
    options: [["size", text]],
    limit: size,
    // Any number of containers may hold it, whatever they are: attach need not be asked.
    sharing: "shared",
    notes: [`team "${team}" now uses ${rounded(used + size)} of ${rounded(limit)}`],
  };
}

/**
 * @param {AttachRequest} request
 * @returns {Attachment}
 */
export function attach(request) {
  return { access: request.access, sharing: "shared" };
}

/**
 * What a team may have, in bytes. An operator may have written anything into the table.
 * @param {Pair[]} settings
 * @param {string} team
 */
function limitOf(settings, team) {
  const own = `teams.${team}`;
  const name = value(settings, own) === undefined ? "default" : own;
  const text = value(settings, name, LIMIT);
  return amount(
    text,
    `the setting ${name} is "${text}", which is no amount of storage`,
    "mend [plugins.team-quota] in the configuration of volhook",
  );
}

/**
 * The bytes that a text stands for, or a refusal in words of our own.
 * @param {string} text
 * @param {string} reason
 * @param {string} hint
 */
function amount(text, reason, hint) {
  try {
    return parseSize(text);
  } catch (error) {
    if (error instanceof Refused) return refuse(reason, hint);
    throw error;
  }
}

/**
 * Bytes for people, rounded down to tenths of a unit: `1.5G`.
 * @param {number} bytes
 */
function rounded(bytes) {
  for (const [power, unit] of [[5, "P"], [4, "T"], [3, "G"], [2, "M"], [1, "K"]]) {
    const one = 1024 ** Number(power);
    if (bytes < one) continue;
    const whole = Math.floor(bytes / one);
    const tenth = Math.floor(((bytes - whole * one) * 10) / one);
    return tenth === 0 ? `${whole}${unit}` : `${whole}.${tenth}${unit}`;
  }
  return String(bytes);
}
