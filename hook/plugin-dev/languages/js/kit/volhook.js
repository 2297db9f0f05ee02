// What a plugin in JavaScript is written with; volhook.d.ts beside this file documents it.

export class Refused extends Error {
  constructor(reason, hint = null) {
    super(reason);
    this.name = "Refused";
    this.reason = reason;
    this.hint = hint;
  }
}

export function refuse(reason, hint = null) {
  throw new Refused(reason, hint);
}

export function value(pairs, name, fallback = undefined) {
  const found = pairs.find(([key]) => key === name);
  return found === undefined ? fallback : found[1];
}

export function parseSize(text, what = "size") {
  const found = /^([0-9]+)([kmgtp]?)(?:i?b)?$/i.exec(text);
  const plain = found && !(found[2] === "" && /ib$/i.test(text));
  const bytes = plain ? Number(found[1]) * 1024 ** "_KMGTP".indexOf(found[2].toUpperCase() || "_") : 0;
  if (bytes <= 0 || bytes >= 2 ** 63) {
    refuse(`${what} ${JSON.stringify(text)} is no amount of storage`, "a whole number with a unit, such as 512M or 10G");
  }
  return bytes;
}
