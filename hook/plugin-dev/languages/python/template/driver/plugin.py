"""The driver `{{name}}`: decides how volhook backs a volume, and which containers may hold it.

A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does nothing
but answer; volhook builds the directory and mounts it. `kit/volhook/types.py` documents every field of questions and
answers, and `fixtures/` has questions with the answers that are right.
"""

import re
from typing import Optional

from volhook import (
    Attachment,
    AttachRequest,
    Backing_Directory,
    CreateRequest,
    Creation,
    Directory,
    Info,
    OptionInfo,
    OptionKind_Choice,
    OptionKind_Text,
    Sharing,
    refuse,
    value,
)

MODE = "0755"
SHARING = "shared"


def describe() -> Info:
    """What the driver is, and the options that a claim may give. volhook refuses unknown options and values of the
    wrong kind itself. A default is for people to read: filling it in is up to `create`."""
    return Info(
        name="{{name}}",
        about="A directory, for any number of containers or for one at a time",
        options=[
            OptionInfo(
                name="mode",
                kind=OptionKind_Text(),
                default=MODE,
                about="The directory's permissions, in octal",
            ),
            OptionInfo(
                name="sharing",
                kind=OptionKind_Choice(["shared", "exclusive"]),
                default=SHARING,
                about="Who may hold it at a time",
            ),
        ],
    )


def create(request: CreateRequest) -> Creation:
    """How to back a volume that does not exist yet."""
    mode = value(request.options, "mode", MODE)
    sharing = value(request.options, "sharing", SHARING)
    bits = octal(mode)
    # A refusal is a decision, with words for whoever asked. Any other exception is a bug of this driver.
    if bits is None:
        refuse(f'mode "{mode}" is not octal', "such as 0755")
    return Creation(
        backing=Backing_Directory(Directory(mode=bits)),
        # volhook records these with the volume: `attach` gets them back.
        options=[("mode", mode), ("sharing", sharing)],
    )


def attach(request: AttachRequest) -> Attachment:
    """Whether and how a container may hold a volume."""
    if value(request.options, "sharing") != "exclusive":
        return Attachment(access=request.access, sharing=Sharing.SHARED)
    # volhook keeps exclusive holders apart whatever a driver says. To refuse here is to say why.
    for holder in request.holders:
        refuse(f'held by "{holder.container}"', "stop that container first")
    return Attachment(access=request.access, sharing=Sharing.EXCLUSIVE)


def octal(text: str) -> Optional[int]:
    """The permission bits that `text` stands for."""
    bits = int(text, 8) if re.fullmatch("[0-7]+", text) else None
    return bits if bits is not None and bits <= 0o7777 else None
