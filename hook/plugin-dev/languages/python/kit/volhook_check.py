"""Says what is wrong with an answer, where the sandbox would only end the call."""

from typing import Any, Type

from volhook import types
from volhook_schema import SCHEMA


def shape_of(of: Any) -> Any:
    """What a type of the schema is: a word and what belongs to it."""
    return SCHEMA["types"].get(of, [of]) if isinstance(of, str) else of


def pascal(name: str) -> str:
    """`host-path` as `HostPath`."""
    return name.title().replace("-", "")


def case_of(variant: str, case: str) -> Type[Any]:
    """The class of a case of a variant."""
    return getattr(types, f"{pascal(variant)}_{pascal(case)}")


def check(of: Any, value: Any, path: str) -> None:
    """Raises TypeError or ValueError unless `value` is what the interface wants."""
    what, *rest = shape_of(of)
    if what == "record":
        for name, part, _, _ in rest[0]:
            if not hasattr(value, name):
                raise TypeError(f"{path} is {value!r:.80}, not a {pascal(of)}")
            check(part, getattr(value, name), f"{path}.{name}")
    elif what == "list":
        if not isinstance(value, list):
            raise TypeError(f"{path} is {value!r:.80}, not a list")
        for index, element in enumerate(value):
            check(rest[0], element, f"{path}[{index}]")
    elif what == "tuple":
        if not isinstance(value, tuple) or len(value) != len(rest):
            raise TypeError(f"{path} is {value!r:.80}, not a tuple of {len(rest)}")
        for index, part in enumerate(rest):
            check(part, value[index], f"{path}[{index}]")
    elif what == "option":
        if value is not None:
            check(rest[0], value, path)
    elif what == "variant":
        found = next((part for name, part in rest[0] if isinstance(value, case_of(of, name))), None)
        if found is None:
            raise TypeError(f"{path} is {value!r:.80}, not a {pascal(of)}_…")
        if found:
            check(found, value.value, f"{path}.value")
    elif what == "enum":
        if not isinstance(value, getattr(types, pascal(of))):
            raise TypeError(f"{path} is {value!r:.80}, not of {pascal(of)}")
    elif what in ("u32", "u64"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{path} is {value!r:.80}, not a whole number")
        if not 0 <= value < 2 ** int(what[1:]):
            raise ValueError(f"{path} is {value}, which is not from 0 to 2^{what[1:]} - 1")
    elif what == "bool":
        if not isinstance(value, bool):
            raise TypeError(f"{path} is {value!r:.80}, not True or False")
    elif not isinstance(value, str):
        raise TypeError(f"{path} is {value!r:.80}, not a text")
    else:
        # Half of a surrogate pair is no character, and UTF-8 has no place for it.
        value.encode()
