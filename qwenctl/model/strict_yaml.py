"""YAML read strictly: plain values only, each key once, no anchors, little nesting.

YAML permits more than a model card needs: a key that is there twice loses its first value without a word,
anchors let a short text stand for a huge one, and deep nesting overruns the stack of the C parser.
"""

from typing import TYPE_CHECKING, Any, Final

from qwenctl.errors import Malformed

if TYPE_CHECKING:
    import yaml

NESTING_LIMIT: Final = 16
"""Levels; a model card has three."""


def parse_yaml(raw: bytes) -> object:
    """The document in `raw`: None, numbers, text, dates, lists, mappings.

    Raises: Malformed, with line and column where the parser knows them.
    """
    import yaml

    try:
        _check_events(raw)
        loader = _loader(raw)
        node = loader.get_single_node()
        _check_keys(node)
        return loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2025-02-30
        raise Malformed(f"it is not YAML: {' '.join(str(error).split())[:300]}") from error


def _loader(raw: bytes) -> Any:
    """The parser in C, five times as fast, where PyYAML was built with it; both read plain values only."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(raw)


def _check_events(raw: bytes) -> None:
    import yaml

    loader, depth = _loader(raw), 0
    while loader.check_event():
        event = loader.get_event()
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > NESTING_LIMIT:
            raise Malformed(f"{_place(event)} is nested more than {NESTING_LIMIT} levels deep")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise Malformed(f"{_place(event)} has an anchor or an alias, which are not used here")


def _check_keys(node: "yaml.Node | None") -> None:
    """Every mapping below `node` has each key once."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    if not isinstance(node, yaml.MappingNode):
        return
    keys: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Malformed(f"{_place(key)} has a key that is not plain")
        if key.value in keys:
            raise Malformed(f"{_place(key)} has the key `{key.value[:80]}` a second time")
        keys.add(key.value)
        _check_keys(value)


def _place(thing: Any) -> str:
    return f"line {thing.start_mark.line + 1}"
