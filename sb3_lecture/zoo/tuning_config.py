"""Writing tuned values back into ``zoo_configs/<algo>.yml`` as text, so that every other line and comment stays."""

import os
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from sb3_lecture.zoo import configs
from sb3_lecture.zoo.errors import UserError

_WIDTH = 120


def write_entry(path: Path, env_id: str, changed: dict[str, Any], source: str, based_on: str) -> None:
    """Change values of one environment's entry, and its ``# source:`` comment; with no value to change, add to the comment.

    :param path: the config
    :param env_id: the entry; it is added, as a copy of ``based_on``, where it is missing
    :param changed: hyperparameters in the config's form
    :param source: text of the comment
    :param based_on: key of the entry whose values were tuned
    :raises UserError: if the file cannot be written, or holds the entry in a form that is not understood
    """
    text = path.read_text(encoding="utf-8")
    before = configs.read_entries(path)
    lines = text.splitlines()
    first, last = _block(lines, based_on, path)
    block = [f"{env_id}:", *_changed_block(lines[first + 1 : last], changed, source)]
    if env_id == based_on:
        lines[first:last] = block
    else:
        lines += ["", *block]
    new = "\n".join(lines).rstrip() + "\n"
    after = yaml.safe_load(new)
    if after != {**before, env_id: {**before[based_on], **changed}}:
        raise UserError(f"{path}: cannot change the entry {env_id!r} by itself; write its values by hand: {changed}")
    beside = path.with_suffix(f".{os.getpid()}.new")
    try:
        beside.write_text(new, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error


def _block(lines: list[str], key: str, path: Path) -> tuple[int, int]:
    """First line of an entry, and the line after its last one that is not blank."""
    heads = [i for i, line in enumerate(lines) if re.match(r"[^\s#]", line)]
    for i, head in enumerate(heads):
        if lines[head].split("#")[0].strip() in (f"{key}:", f"'{key}':", f'"{key}":'):
            last = heads[i + 1] if i + 1 < len(heads) else len(lines)
            while not lines[last - 1].strip() or lines[last - 1].startswith("#"):  # blank, or a comment on the next entry
                last -= 1
            return head, last
    raise UserError(f"{path}: cannot find where the entry {key!r} begins; write the values by hand")


def _changed_block(lines: list[str], changed: dict[str, Any], source: str) -> list[str]:
    """An entry's lines with other values; where none changes, its source stays, and what was tried comes after it."""
    indent = next((line[: len(line) - len(line.lstrip())] for line in lines if line.strip()), "  ")
    kept: list[str] = []
    old: list[str] = []  # the source there was
    left, dropping, in_source = dict(changed), False, False
    for line in lines:
        inner = line.removeprefix(indent)
        if inner.startswith("#"):
            in_source = inner.startswith("# source:") or in_source  # the old comment may have several lines
            if in_source:
                old.append(inner.removeprefix("# source:").removeprefix("#").strip())
            else:
                kept.append(line)
            continue
        in_source = False
        if line.startswith(indent) and inner[:1].strip():  # a key of the entry, not what is nested below one
            name = inner.split(":")[0].strip("'\"")
            dropping = name in left
            if dropping:
                kept.append(f"{indent}{name}: {_scalar(left.pop(name))}")
        if not dropping:
            kept.append(line)
    before = " ".join(old).split("; tune --algo ")[0]  # without an earlier study that changed nothing
    if not changed and before and not before.startswith("tune --algo "):
        source = f"{before}; {source}"
    comment = [f"{indent}# {'' if i else 'source: '}{part}" for i, part in enumerate(_wrapped(source, indent))]
    return [*comment, *kept, *(f"{indent}{name}: {_scalar(value)}" for name, value in left.items())]


def _scalar(value: Any) -> str:
    """A value as YAML 1.1 reads it back."""
    if isinstance(value, float):
        return repr(value) if isinstance(yaml.safe_load(repr(value)), float) else f"!!float {value!r}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - len(indent) - len("# source: "), break_on_hyphens=False)
