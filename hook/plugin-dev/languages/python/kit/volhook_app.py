"""What the component exports."""

import sys
from typing import Any, Callable

import volhook_limits
from componentize_py_types import Err
from volhook_schema import SCHEMA
from volhook_wrap import FUNCTIONS, Rejected


class Nowhere:
    """Where print goes: there is nothing outside, and the call would end."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


sys.stdout = sys.stderr = Nowhere()
volhook_limits.apply()


def exported(name: str) -> Callable[..., Any]:
    call = FUNCTIONS[name]

    def method(_: Any, *asked: Any) -> Any:
        try:
            return call(*asked)
        except Rejected as rejected:
            raise Err(rejected.refusal) from None

    return method


# The runtime looks for a class of the interface's name.
_NAME = SCHEMA["kind"].title()
globals()[_NAME] = type(_NAME, (), {name: exported(name) for name in FUNCTIONS})
