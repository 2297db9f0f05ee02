// Makes of what plugin.js answers what the interface wants, or says what is wrong with it.

import schema from "./schema.js";

/** What a type of the schema is: its name for messages, and its shape. */
export function shapeOf(type) {
  return typeof type === "string" && schema.types[type] ? schema.types[type] : [].concat(type);
}

function wrong(path, found, wanted) {
  const text = found === undefined ? "missing" : (JSON.stringify(found, (_, v) => (typeof v === "bigint" ? `${v}n` : v)) ?? typeof found);
  throw new TypeError(`${path} is ${text.slice(0, 80)}, not ${wanted}`);
}

function whole(path, value, end) {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (!Number.isInteger(number) || number < 0 || number >= end || BigInt(number) !== BigInt(value)) {
    wrong(path, value, `a whole number from 0 to ${end === 2 ** 32 ? "2^32 - 1" : "2^63 that a number can hold"}`);
  }
  return number;
}

/** `value` as the interface wants it, with defaults for what is left out. */
export function complete(type, value, path) {
  const [what, ...rest] = shapeOf(type);
  switch (what) {
    case "string":
      return typeof value === "string" ? value : wrong(path, value, "a text");
    case "bool":
      return typeof value === "boolean" ? value : wrong(path, value, "true or false");
    case "u32":
      return whole(path, value, 2 ** 32);
    case "u64":
      return whole(path, value, 2 ** 63);
    case "option":
      return value === undefined || value === null ? null : complete(rest[0], value, path);
    case "list":
      if (!Array.isArray(value)) wrong(path, value, "a list");
      return value.map((element, index) => complete(rest[0], element, `${path}[${index}]`));
    case "tuple":
      if (!Array.isArray(value) || value.length !== rest.length) wrong(path, value, `a list of ${rest.length}`);
      return rest.map((part, index) => complete(part, value[index], `${path}[${index}]`));
    case "enum":
      if (!rest[0].some(([name]) => name === value)) wrong(path, value, rest[0].map(([name]) => name).join(" or "));
      return value;
    case "variant": {
      const found = rest[0].find(([name]) => name === value?.tag);
      if (!found) wrong(path, value, `{ tag: ${rest[0].map(([name]) => JSON.stringify(name)).join(" or ")} }`);
      return found[1] === "" ? { tag: found[0] } : { tag: found[0], val: complete(found[1], value.val, `${path}.val`) };
    }
    case "record":
      return record(rest[0], value, path);
    default:
      throw new Error(`the schema has an unknown type ${what}`);
  }
}

function record(fields, value, path) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) wrong(path, value, "an object");
  const made = {};
  for (const [key, type, , fallback] of fields) {
    const given = value[key] === undefined && fallback ? missing(type) : value[key];
    made[key] = complete(type, given, `${path}.${key}`);
  }
  const unknown = Object.keys(value).find((key) => !(key in made));
  if (unknown !== undefined) throw new TypeError(`${path} has no field ${unknown}; it has ${Object.keys(made).join(", ")}`);
  return made;
}

function missing(type) {
  const what = shapeOf(type)[0];
  return { list: [], option: null, bool: false, u32: 0, record: {} }[what];
}

/** A question as plugin.js gets it: the engine hands numbers of 2^63 and more over as negative ones. */
export function received(type, value) {
  const [what, ...rest] = shapeOf(type);
  if (what === "u64") return value < 0 ? value + 2 ** 64 : value;
  if (what === "list") for (const [index, element] of value.entries()) value[index] = received(rest[0], element);
  if (what === "record") for (const [key, part] of rest[0]) value[key] = received(part, value[key]);
  return value;
}
