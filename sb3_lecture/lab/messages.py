"""What a browser may say, read from outside: bounded, checked, and nothing else.

``{"id": 7, "set": {"alpha": 0.5}}`` changes settings, ``{"id": 8, "do": "step"}`` asks for an action; both are answered by a
message with the same id. ``{"ack": 3}`` says that frame 3 of a playing page was drawn.
"""

import json
from typing import Any, NamedTuple

from sb3_lecture.lab.page import Refused

LONGEST_MESSAGE = 65_536  # bytes
LARGEST_ID = 2**53
MOST_SETTINGS = 32


class Message(NamedTuple):
    """One message; exactly one of ``changes``, ``action`` and ``ack`` is not None."""

    id: int
    changes: dict[str, Any] | None = None
    action: str | None = None
    ack: int | None = None


def read_message(text: str | bytes | None) -> Message:
    """Read one message.

    :param text: as it came from the socket
    :raises Refused: if it is anything but one of the three forms above
    """
    if not isinstance(text, str) or len(text) > LONGEST_MESSAGE:
        raise Refused(f"a message must be text of at most {LONGEST_MESSAGE} characters")
    try:
        said = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused("a message must be JSON") from error
    if not isinstance(said, dict):
        raise Refused("a message must be a JSON object")
    keys = set(said)
    if keys == {"ack"}:
        return Message(0, ack=_whole(said["ack"]))
    if keys == {"id", "set"} and isinstance(said["set"], dict) and len(said["set"]) <= MOST_SETTINGS:
        return Message(_whole(said["id"]), changes=said["set"])
    if keys == {"id", "do"} and isinstance(said["do"], str):
        return Message(_whole(said["id"]), action=said["do"])
    raise Refused('a message must be {"id", "set"}, {"id", "do"} or {"ack"}')


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_ID:
        raise Refused(f"an id must be a whole number from 0 to {LARGEST_ID}")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
