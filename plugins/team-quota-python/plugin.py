"""The example driver `team-quota` in Python: volumes with a size, and a limit for what the volumes of a team may have
together. It decides as plugins/team-quota does, whose fixtures are its fixtures.
"""

from volhook import (
    Attachment,
    AttachRequest,
    Backing_Image,
    CreateRequest,
    Creation,
    Directory,
    Filesystem,
    Image,
    Info,
    OptionInfo,
    OptionKind_Size,
    OptionKind_Table,
    Refused,
    Sharing,
    parse_size,
    refuse,
    value,
)

# The size of a volume that asks for none.
SIZE = "1G"
# What a team may have where the operator has not said.
LIMIT = "10G"
# The smallest ext4 with a journal, in bytes.
SMALLEST = 8 << 20


def describe() -> Info:
    return Info(
        name="team-quota",
        about="A volume with a size, within what its team may have",
        options=[
            OptionInfo(
                name="size",
                kind=OptionKind_Size(),
                default=SIZE,
                about="The most that the volume can hold, 8M or more",
            ),
        ],
        settings=[
            OptionInfo(
                name="default",
                kind=OptionKind_Size(),
                default=LIMIT,
                about="What a team may have that has no entry in teams",
            ),
            OptionInfo(
                name="teams",
                kind=OptionKind_Table(),
                about='What a team may have, such as teams.web = "50G"',
            ),
        ],
    )


def create(request: CreateRequest) -> Creation:
    team = value(request.labels, "team")
    if not team:
        refuse(
            "the volume has no label team",
            "say whose it is: volume-label=team=NAME, or --label team=NAME on the command line",
        )
    text = value(request.options, "size", SIZE)
    size = amount(text, f'size "{text}" is no amount of storage', "a whole number with a unit, such as 512M or 10G")
    if size < SMALLEST:
        refuse(f"a size of {text} is too small for ext4", "give a size of 8M or more")
    limit = limit_of(request.settings, team)
    used = next((usage.bytes for usage in request.usage.labels if tuple(usage.label) == ("team", team)), 0)
    left = max(0, limit - used)
    if size > left:
        refuse(
            f'team "{team}" uses {rounded(used)} of {rounded(limit)}, and {rounded(size)} more would be too much',
            f"remove volumes of the team: volhook volume ls --filter label=team={team}"
            if left < SMALLEST
            else f"ask for {left >> 20}M or less, or remove volumes of the team",
        )
    return Creation(
        backing=Backing_Image(Image(size=size, filesystem=Filesystem.EXT4, root=Directory(mode=0o755))),
        options=[("size", text)],
        limit=size,
        # Any number of containers may hold it, whatever they are: attach need not be asked.
        sharing=Sharing.SHARED,
        notes=[f'team "{team}" now uses {rounded(used + size)} of {rounded(limit)}'],
    )


def attach(request: AttachRequest) -> Attachment:
    return Attachment(access=request.access, sharing=Sharing.SHARED)


def limit_of(settings: list, team: str) -> int:
    """What a team may have, in bytes. An operator may have written anything into the table."""
    own = f"teams.{team}"
    name = "default" if value(settings, own) is None else own
    text = value(settings, name, LIMIT)
    return amount(
        text,
        f'the setting {name} is "{text}", which is no amount of storage',
        "mend [plugins.team-quota] in the configuration of volhook",
    )


def amount(text: str, reason: str, hint: str) -> int:
    """The bytes that a text stands for, or a refusal in words of our own."""
    try:
        return parse_size(text)
    except Refused:
        refuse(reason, hint)


def rounded(size: int) -> str:
    """Bytes for people, rounded down to tenths of a unit: `1.5G`."""
    for power, unit in ((5, "P"), (4, "T"), (3, "G"), (2, "M"), (1, "K")):
        one = 1024**power
        if size >= one:
            tenths = size * 10 // one
            return f"{tenths // 10}{unit}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}{unit}"
    return str(size)
