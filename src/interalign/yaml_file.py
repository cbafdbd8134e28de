"""A YAML file of `name: value` lines, read strictly: what is not one, or says a thing twice, is refused in one line."""

from pathlib import Path
from typing import Any

import yaml

from interalign.errors import ConfigError, did_you_mean


def read_yaml(path: Path) -> dict[str, Any]:
    """The `name: value` lines of a YAML file; ConfigError that names the file if it cannot be read as that.

    A name given twice is refused at every level: YAML forbids it, and PyYAML would take the last one in silence.
    """
    text = _text(path)
    if not text.strip():
        raise ConfigError(f"{path} is empty; write `name: value` lines into it, or do not name it")
    try:
        values = yaml.load(text, _Loader)  # which is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>",', "in").split()) or type(error).__name__
        raise ConfigError(f"{path}: cannot be read as YAML ({reason})") from None
    if values is None:  # comments only
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `name: value` lines, got {_KINDS.get(type(values), 'text')}")
    if strange := [key for key in values if not isinstance(key, str)]:
        raise ConfigError(
            f"{path}: {strange[0]!r} cannot be a name: expected `name: value` lines, with text as the name"
        )
    return values


_KINDS = {list: "a list", int: "a number", float: "a number", bool: "true or false"}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a mark before the first line
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from None
    except OSError as error:
        near = did_you_mean(path.name, _files_beside(path)) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){near}") from None


def _files_beside(path: Path) -> list[str]:
    try:
        return [each.name for each in path.parent.iterdir() if each.is_file()]
    except OSError:
        return []


class _Loader(yaml.SafeLoader):
    """Plain values only, and every name once."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                before = first.setdefault((key.tag, key.value), key)
                if before is not key:
                    lines = f"lines {before.start_mark.line + 1} and {key.start_mark.line + 1}"
                    raise ValueError(f"{key.value!r} is given twice, in {lines}; keep one")
        return node
