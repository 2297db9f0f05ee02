"""What a plugin in Python is written with: the types of the interface, and small helpers."""

import re
from typing import List, NoReturn, Optional, Tuple, TypeVar, Union

from .types import *  # noqa: F403

Fallback = TypeVar("Fallback")


class Refused(Exception):
    """What `refuse` raises."""

    def __init__(self, reason: str, hint: Optional[str] = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def refuse(reason: str, hint: Optional[str] = None) -> NoReturn:
    """Ends the call with a decision against. Any other exception is a fault of the plugin."""
    raise Refused(reason, hint)


def value(pairs: List[Tuple[str, str]], name: str, fallback: Fallback = None) -> Union[str, Fallback]:
    """The value of the pair named `name` among options, labels or settings."""
    return next((text for key, text in pairs if key == name), fallback)


def parse_size(text: str, what: str = "size") -> int:
    """An amount of storage such as `512M` or `10G` in bytes; units are powers of 1024. Refuses anything else."""
    found = re.fullmatch("([0-9]+)(?:([kmgtp])(?:i?b)?|b)?", text, re.ASCII | re.IGNORECASE)
    size = int(found[1]) * 1024 ** (1 + "KMGTP".index(found[2].upper()) if found[2] else 0) if found else 0
    if not 0 < size < 2**63:
        refuse(f'{what} "{text}" is no amount of storage', "a whole number with a unit, such as 512M or 10G")
    return size
