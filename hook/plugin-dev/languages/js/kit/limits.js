// What JavaScript has elsewhere and a plugin has not: says so instead of ending the call without a word.

function none(what) {
  return () => {
    throw new Error(`a plugin has no ${what}: it knows only what it is asked`);
  };
}

const Clock = globalThis.Date;
globalThis.Date = class Date extends Clock {
  constructor(...parts) {
    super(...(parts.length === 0 ? [Date.now()] : parts));
  }
  static now = none("clock");
};
Math.random = none("randomness");

// Nobody sees what is printed in the sandbox; a native run shows it on standard error.
const print = globalThis.process?.stderr ? (...words) => process.stderr.write(`${words.join(" ")}\n`) : () => {};
globalThis.console = { log: print, debug: print, info: print, warn: print, error: print };
