// Runs the plugin under node: reads a question per line from standard input, answers in a line on standard output.
// `volhook plugin test` talks to it; so can a debugger: node --inspect-brk kit/native.js < question.json

import { createInterface } from "node:readline";
import { {{kind}} } from "./main.js";
import schema from "./schema.js";
import { shapeOf } from "./values.js";

/** JSON as plugin.js gets a question in the sandbox. */
function fromJson(type, json) {
  const [what, ...rest] = shapeOf(type);
  switch (what) {
    case "option":
      return json === undefined || json === null ? null : fromJson(rest[0], json);
    case "list":
      return (json ?? []).map((element) => fromJson(rest[0], element));
    case "tuple":
      return rest.map((part, index) => fromJson(part, json[index]));
    case "record":
      return Object.fromEntries(rest[0].map(([name, part, key]) => [name, fromJson(part, json?.[key])]));
    case "bool":
      return json ?? false;
    case "u32":
    case "u64":
      return json ?? 0;
    case "string":
      return json ?? "";
    default:
      return json;
  }
}

/** What the sandbox would get of an answer, as JSON. */
function toJson(type, value) {
  const [what, ...rest] = shapeOf(type);
  switch (what) {
    case "option":
      return value === null ? "null" : toJson(rest[0], value);
    case "list":
      return `[${value.map((element) => toJson(rest[0], element)).join()}]`;
    case "tuple":
      return `[${rest.map((part, index) => toJson(part, value[index])).join()}]`;
    case "record": {
      const fields = rest[0].filter(([name]) => name !== "more");
      return `{${fields.map(([name, part, key]) => `${JSON.stringify(key)}:${toJson(part, value[name])}`).join()}}`;
    }
    case "variant": {
      const of = rest[0].find(([name]) => name === value.tag)[1];
      const key = JSON.stringify(value.tag.replaceAll("-", "_"));
      return of === "" ? key : `{${key}:${toJson(of, value.val)}}`;
    }
    case "u64":
      return BigInt(value).toString();
    // Half of a surrogate pair is no character: neither the sandbox nor JSON has a place for it.
    case "string":
      return JSON.stringify(value.toWellFormed?.() ?? value);
    default:
      return JSON.stringify(value);
  }
}

function answer({ call, request }) {
  const types = schema.functions[call];
  if (!types) return JSON.stringify({ fault: `a {{kind}} has no function ${call}` });
  const faultIn = ({ more }) => more.find(([key]) => key === "fault")?.[1];
  try {
    const answered = {{kind}}[call](types[0] === "" ? undefined : fromJson(types[0], request));
    const fault = types[0] === "" ? faultIn(answered) : undefined;
    return fault === undefined ? `{${JSON.stringify(types[1])}:${toJson(types[1], answered)}}` : JSON.stringify({ fault });
  } catch (refusal) {
    if (refusal instanceof Error) throw refusal;
    const fault = faultIn(refusal);
    return fault === undefined ? `{"refusal":${toJson("refusal", refusal)}}` : JSON.stringify({ fault });
  }
}

createInterface({ input: process.stdin }).on("line", (line) => process.stdout.write(`${answer(JSON.parse(line))}\n`));
