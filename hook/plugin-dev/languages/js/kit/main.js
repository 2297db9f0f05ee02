// What the component exports: plugin.js, with every exception made an answer.

import "./limits.js";
import * as plugin from "../plugin.js";
import schema from "./schema.js";
import { complete, received } from "./values.js";
import { Refused } from "./volhook.js";

/** An exception in one line, with the place in the author's code. */
function describeFault(error) {
  if (!(error instanceof Error)) return `it threw ${JSON.stringify(error) ?? typeof error}, which is no Error`;
  const places = String(error.stack).matchAll(/([^\s()/]+\/)?([^\s()/]+\.m?js):(\d+)(?::(\d+))?/g);
  const place = [...places].find(([, folder]) => folder !== "kit/");
  const text = `${error.name}: ${error.message}`;
  return place ? `${text} at ${place[2]}:${place[3]}${place[4] ? `:${place[4]}` : ""}` : text;
}

function wrapped(name, [request, answer]) {
  return (asked) => {
    try {
      const decide = plugin[name];
      if (typeof decide !== "function") throw new TypeError(`plugin.js exports no function ${name}`);
      return complete(answer, request === "" ? decide() : decide(received(request, asked)), answer);
    } catch (error) {
      if (error instanceof Refused && request !== "") {
        throw complete("refusal", { reason: error.reason, hint: error.hint }, "refusal");
      }
      const fault = describeFault(error);
      const more = [["fault", fault]];
      // A description has no refusal: without a name it is none.
      if (request === "") return complete(answer, { name: "", about: fault, more }, answer);
      throw complete("refusal", { reason: `the plugin failed: ${fault}`, more }, "refusal");
    }
  };
}

export const {{kind}} = Object.fromEntries(
  Object.entries(schema.functions).map(([name, types]) => [name, wrapped(name, types)]),
);
