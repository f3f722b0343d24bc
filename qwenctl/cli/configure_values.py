"""What `configure` sets, by the names of its options, and how it becomes what is kept on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from qwenctl.api.library import ModelSettings
from qwenctl.errors import FileMissing, QwenctlError, UsageError
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import find
from qwenctl.flows.views import open_artifact
from qwenctl.runner.configured import Configurations, Configured
from qwenctl.runner.messages import LoadOptions
from qwenctl.runtime.sampling import Sampling
from qwenctl.settings import Settings
from qwenctl.store.store import Store
from qwenctl.units import parse_duration

_OPTIONS: Final = {"context_length": "context", "kv_type": "kv", "adapters": "lora"}
"""Names of options, where they differ from their fields."""
_OWN: Final = ("keep_alive", "record_bodies")
_LOAD: Final = tuple(name for name in LoadOptions.__struct_fields__ if name != "force")
_KNOWN: Final = {
    _OPTIONS.get(field, field.replace("_", "-")): field
    for field in (*_LOAD, *Sampling.__struct_fields__, *_OWN)
}
"""Every option with the field that it sets."""


def edited(
    before: Configured, given: Mapping[str, Any], unset: Sequence[str], *, reset: bool = False
) -> Configured:
    """What is set once the options in `given` are added and those in `unset` are taken back; after a `reset`
    nothing is left of `before`.

    Raises: UsageError for names and values that cannot be.
    """
    values = {} if reset else spelled(before)
    for name in unset:
        values.pop(_known(name), None)
    fields: dict[str, Any] = {"options": {}, "sampling": {}}
    for name, value in {**values, **given}.items():
        field = _KNOWN[name]
        place = fields if field in _OWN else fields["options" if field in _LOAD else "sampling"]
        place[field] = value
    try:
        now = msgspec.convert(fields, Configured)
        msgspec.convert(now.sampling, Sampling)  # what is out of range would be refused at every request
        if now.keep_alive is not None:
            parse_duration(now.keep_alive)
    except msgspec.ValidationError as error:
        text = str(error)
        raise UsageError(
            f"this cannot be set: {text[:1].lower()}{text[1:]}", hint="see `qwenctl configure --help`"
        ) from error
    except UsageError:
        raise
    except QwenctlError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return now


def change_settings(
    model: str,
    given: Mapping[str, Any],
    unset: Sequence[str],
    reset: bool,
    settings: Settings,
    store: Store,
    catalog: Catalog,
) -> ModelSettings:
    """What is set for the model afterwards; without a change it is only read. Raises: as `edited`, `find`."""
    found = find(model, store, catalog, settings.registry)
    configurations = Configurations(settings.state)
    if not (given or unset or reset):
        return ModelSettings(found.name, found.key, spelled(configurations.of(found.key)))
    if stranger := next((name for name in given if name not in _KNOWN), None):
        raise UsageError(f"there is no `{stranger}` to set", hint=f"it is one of {', '.join(_KNOWN)}")
    values = dict(given)
    if "draft" in values:
        values["draft"] = weights_of(str(values["draft"]), store, catalog, settings.registry)
    now = configurations.change(found.key, lambda before: edited(before, values, unset, reset=reset))
    return ModelSettings(found.name, found.key, spelled(now))


def spelled(configured: Configured) -> dict[str, Any]:
    """All that is set, by the names of the options, as JSON has it."""
    fields = {**configured.options.given(), **configured.sampling}
    fields |= {name: getattr(configured, name) for name in _OWN if getattr(configured, name)}
    names = {field: name for name, field in _KNOWN.items()}
    return {names[field]: msgspec.to_builtins(value) for field, value in fields.items()}


def told(configured: Mapping[str, Any]) -> str:
    """What is set, in a line."""
    return ", ".join(f"{name} {_word(value)}" for name, value in configured.items()) or "nothing is set"


def weights_of(text: str, store: Store, catalog: Catalog, registry: str) -> str:
    """The path of a model's file, named by itself or by the model in the store.

    Raises: FileMissing, ReferenceUnknown.
    """
    if not text.endswith(".gguf") and not text.startswith(("/", "./", "../", "~")):
        return str(open_artifact(find(text, store, catalog, registry), store).weights_path)
    whole = Path(text).expanduser().absolute()  # the runner stands elsewhere
    if not whole.is_file():
        raise FileMissing(f"`{text}` does not exist")
    return str(whole)


def _known(name: str) -> str:
    plain = name.removeprefix("--").replace("_", "-")
    if plain not in _KNOWN:
        raise UsageError(f"there is no `{name}` to take back", hint=f"it is one of {', '.join(_KNOWN)}")
    return plain


def _word(value: object) -> str:
    if isinstance(value, list):
        return " ".join(f"{item['path']}:{item['scale']:g}" for item in value)
    return "on" if value is True else str(value)
