"""Runs the plugin outside the sandbox: reads a question per line from standard input, answers in a line on standard
output. `volhook plugin test` talks to it; so can a debugger: python3 -m pdb kit/native.py, its questions typed in."""

import json
import sys
from pathlib import Path
from typing import Any

if sys.version_info < (3, 10):
    sys.exit(f"a plugin in Python needs Python 3.10 or newer outside the sandbox; this is {sys.version.split()[0]}")

KIT = Path(__file__).resolve().parent
sys.path[:1] = [str(KIT), str(KIT.parent)]
# What the plugin prints is not an answer.
ANSWERS, sys.stdout = sys.stdout, sys.stderr

import volhook_limits  # noqa: E402
from volhook import types  # noqa: E402
from volhook_check import case_of, pascal, shape_of  # noqa: E402
from volhook_schema import SCHEMA  # noqa: E402
from volhook_wrap import FUNCTIONS, Rejected, fault_of  # noqa: E402

EMPTY = {"string": "", "bool": False, "u32": 0, "u64": 0}


def from_json(of: Any, value: Any) -> Any:
    """JSON as plugin.py gets a question in the sandbox."""
    what, *rest = shape_of(of)
    if what == "record":
        given = value or {}
        return getattr(types, pascal(of))(**{name: from_json(part, given.get(key)) for name, part, key, _ in rest[0]})
    if what == "list":
        return [from_json(rest[0], element) for element in value or []]
    if what == "tuple":
        return tuple(from_json(part, element) for part, element in zip(rest, value))
    if what == "option":
        return None if value is None else from_json(rest[0], value)
    if what == "enum":
        names = [name for name, _ in rest[0]]
        return getattr(types, pascal(of))(names.index(value))
    return EMPTY[what] if value is None else value


def to_json(of: Any, value: Any) -> Any:
    """What the sandbox would get of an answer, for JSON."""
    what, *rest = shape_of(of)
    if what == "record":
        return {key: to_json(part, getattr(value, name)) for name, part, key, _ in rest[0] if name != "more"}
    if what == "list":
        return [to_json(rest[0], element) for element in value]
    if what == "tuple":
        return [to_json(part, element) for part, element in zip(rest, value)]
    if what == "option":
        return None if value is None else to_json(rest[0], value)
    if what == "enum":
        return rest[0][value.value][0]
    if what == "variant":
        name, part = next((name, part) for name, part in rest[0] if isinstance(value, case_of(of, name)))
        key = name.replace("-", "_")
        return {key: to_json(part, value.value)} if part else key
    return value


def answer(question: Any) -> Any:
    call = question["call"]
    if call not in FUNCTIONS:
        return {"fault": f"a {SCHEMA['kind']} has no function {call}"}
    request, answered = SCHEMA["functions"][call]
    try:
        decided = FUNCTIONS[call](*([from_json(request, question.get("request"))] if request else []))
        fault = None if request else fault_of(decided.more)
        return {answered: to_json(answered, decided)} if fault is None else {"fault": fault}
    except Rejected as rejected:
        fault = fault_of(rejected.refusal.more)
        return {"refusal": to_json("refusal", rejected.refusal)} if fault is None else {"fault": fault}


volhook_limits.apply()
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), file=ANSWERS, flush=True)
