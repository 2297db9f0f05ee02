"""The policy `{{name}}`: decides which volumes a container gets without asking for them.

A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does nothing
but answer; volhook makes the volumes and mounts them. `kit/volhook/types.py` documents every field of questions and
answers, and `fixtures/` has questions with the answers that are right.
"""

from volhook import Access, Claim, ClaimsRequest, Grant, Info, OptionInfo, OptionKind_Text, refuse, value

TARGET = "/cache"


def describe() -> Info:
    """What the policy is, and the settings that an operator or a container's annotation may give. volhook refuses
    unknown ones itself. A default is for people to read: filling it in is up to `claims`."""
    return Info(
        name="{{name}}",
        about="A cache for each pod, which outlives its containers",
        settings=[
            OptionInfo(
                name="target",
                kind=OptionKind_Text(),
                default=TARGET,
                about="Where the cache appears in the container",
            ),
        ],
    )


def claims(request: ClaimsRequest) -> Grant:
    """Which volumes a container gets."""
    pod = request.container.pod
    if pod is None:
        # Notes are for the operator: `volhook explain` shows them.
        return Grant(notes=["no pod, nothing to give"])
    target = value(request.settings, "target", TARGET)
    # A refusal keeps the container from its start, with words for whoever started it.
    if not target.startswith("/"):
        refuse(f'target "{target}" is not absolute', f"such as {TARGET}")
    return Grant(
        claims=[
            Claim(
                volume=f"cache-{pod}",
                member="cache",
                target=target,
                driver="local",
                access=Access.READ_WRITE,
            ),
        ],
    )
