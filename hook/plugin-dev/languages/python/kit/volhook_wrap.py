"""Makes every exception of plugin.py an answer: in the component and in native runs alike."""

from typing import Any, Callable, List, Optional

import plugin
from volhook import Refusal, Refused, types
from volhook_check import check
from volhook_schema import SCHEMA


class Rejected(Exception):
    """A refusal, or what stands for one because the plugin failed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def fault_of(more: List[Any]) -> Optional[str]:
    """What went wrong, of an answer that is none."""
    return next((text for key, text in more if key == "fault"), None)


def describe_fault(error: BaseException) -> str:
    """An exception in one line, with the place in the author's code."""
    text = f"{type(error).__name__}: {error}"
    place = None
    traceback = error.__traceback__
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
        own = traceback.tb_frame.f_globals.get("__name__", "")
        if not own.startswith("volhook"):
            place = f"{name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{text} at {place}" if place else text


def wrapped(name: str, request: str, answer: str) -> Callable[..., Any]:
    """The function `name` of plugin.py, which then raises nothing but Rejected."""

    def call(*asked: Any) -> Any:
        try:
            decided = getattr(plugin, name)(*asked)
            check(answer, decided, answer)
            return decided
        except Refused as refused:
            refusal = Refusal(reason=refused.reason, hint=refused.hint)
            if request:
                raise Rejected(refusal) from None
            error: BaseException = refused
        except BaseException as raised:
            error = raised
        fault = describe_fault(error)
        if not request:
            # A description has no refusal: without a name it is none.
            return types.Info(name="", about=fault, more=[("fault", fault)])
        raise Rejected(Refusal(reason=f"the plugin failed: {fault}", more=[("fault", fault)]))

    return call


FUNCTIONS = {name: wrapped(name, *parts) for name, parts in SCHEMA["functions"].items()}
