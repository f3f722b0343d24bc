"""Settings: where they come from, which wins, what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import InvalidSettings
from qwenctl.settings import DEFAULT_PORT, FILE_KEYS, Directories, Settings, resolve

DIRECTORIES = Directories(Path("/c"), Path("/d"), Path("/s"), Path("/r"))


def from_file(text: str) -> Settings:
    """The settings of a file alone."""
    return resolve({}, {}, text, DIRECTORIES)


def test_defaults() -> None:
    """With nothing said, the platform's directories and Docker Model Runner's port."""
    assert from_file("") == Settings(
        store=Path("/d/store"),
        runtime=Path("/r"),
        state=Path("/s"),
        registry="docker.io",
        insecure_registries=frozenset(),
        keep_alive_seconds=300.0,
        port=DEFAULT_PORT,
        ggml_backends=(),
    )


@pytest.mark.parametrize(
    ("field", "key", "variable", "texts", "values"),
    [
        ("store", "store", "QWENCTL_STORE", ("/1", "/2", "/3"), (Path("/1"), Path("/2"), Path("/3"))),
        ("runtime", "runtime", "QWENCTL_RUNTIME", ("/1", "/2", "/3"), (Path("/1"), Path("/2"), Path("/3"))),
        ("state", "state", "QWENCTL_STATE", ("/1", "/2", "/3"), (Path("/1"), Path("/2"), Path("/3"))),
        (
            "registry",
            "registry",
            "QWENCTL_REGISTRY",
            ("a.b", "C:1", "localhost"),
            ("a.b", "c:1", "localhost"),
        ),
        (
            "insecure_registries",
            "insecure_registries",
            "QWENCTL_INSECURE_REGISTRIES",
            ("a", "B, c:1", ""),
            (frozenset({"a"}), frozenset({"b", "c:1"}), frozenset()),
        ),
        ("keep_alive_seconds", "keep_alive", "QWENCTL_KEEP_ALIVE", ("1s", "2m", "3"), (1.0, 120.0, 3.0)),
        ("port", "port", "QWENCTL_PORT", ("0", "1", "65535"), (0, 1, 65535)),
        (
            "ggml_backends",
            "ggml_backends",
            "QWENCTL_GGML_BACKENDS",
            ("/a", "/b, /c", ""),
            ((Path("/a"),), (Path("/b"), Path("/c")), ()),
        ),
    ],
)
def test_flags_win_over_the_environment_over_the_file(
    field: str, key: str, variable: str, texts: tuple[str, str, str], values: tuple[object, object, object]
) -> None:
    """Each field can be set in three places, and the one nearest to the command wins."""
    file, environ, flags = f"{key}: '{texts[0]}'", {variable: texts[1]}, {field: texts[2]}
    assert getattr(resolve({}, {}, file, DIRECTORIES), field) == values[0]
    assert getattr(resolve({}, environ, file, DIRECTORIES), field) == values[1]
    assert getattr(resolve(flags, environ, file, DIRECTORIES), field) == values[2]
    assert getattr(resolve({field: None}, {variable: ""}, file, DIRECTORIES), field) == values[0]


def test_every_field_has_a_key() -> None:
    """The file can set every field, once."""
    assert sorted(FILE_KEYS.values()) == sorted(field.name for field in fields(Settings))


def test_yaml_values_of_other_types_are_read_as_text() -> None:
    """Numbers and lists in the file mean what they look like."""
    settings = from_file("port: 8080\nkeep_alive: -1\ninsecure_registries: [a:1, B]\n")
    assert (settings.port, settings.keep_alive_seconds) == (8080, float("inf"))
    assert settings.insecure_registries == {"a:1", "b"}
    assert from_file("insecure_registries:\n").insecure_registries == frozenset()


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` is the home directory, and a relative path starts where we are."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert from_file("store: ~/models").store == Path("/home/me/models")
    assert from_file("store: models").store == tmp_path / "models"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("unknown: 1", "unknown key `unknown`"),
        ("1: 2", "unknown key `1`"),
        ("[]", "not a mapping"),
        ("just text", "not a mapping"),
        ("a: b: c", "not YAML"),
        ("a: [", "not YAML"),
        ("a: 2020-13-45", "not YAML"),
        ("a: !!python/object:os.system x", "not YAML"),
        ("a: " + "[" * 5000, "not YAML"),
        ("store:", "`store`: the path is empty"),
        ("store: {a: b}", "`store` is not a single value"),
        ('store: "a\\0b"', "`store`: the path has a zero byte"),
        ("store: ~nobody-of-this-name/x", "`store`: the home directory"),
        ("port: http", "`port`: `http` is not a port"),
        ("port: 65536", "`port`: `65536` is not a port"),
        ("port: -1", "`port`: `-1` is not a port"),
        ("port: true", "`port`: `True` is not a port"),
        (f"port: '{'9' * 5000}'", "is not a port"),
        ("registry: http://x.y", "`registry`: .* is not a registry"),
        ("registry: myhost", "`registry`: `myhost` is not a registry"),
        ("registry:", "`registry`: `` is not a registry"),
        ("keep_alive: soon", "`keep_alive`: `soon` is not a duration"),
    ],
)
def test_unusable_files_are_refused(text: str, complaint: str) -> None:
    """Each mistake raises InvalidSettings with the key that it is in."""
    with pytest.raises(InvalidSettings, match=complaint) as caught:
        from_file(text)
    assert caught.value.message.startswith("settings file")


def test_the_origin_of_a_mistake_is_named() -> None:
    """A bad value says whether the variable or the flag has it, and keeps the hint."""
    with pytest.raises(InvalidSettings, match=r"^\$QWENCTL_PORT: `x`") as caught:
        resolve({}, {"QWENCTL_PORT": "x"}, "", DIRECTORIES)
    assert caught.value.hint
    with pytest.raises(InvalidSettings, match=r"^--keep-alive: `x`"):
        resolve({"keep_alive_seconds": "x"}, {}, "", DIRECTORIES)


@given(st.text(max_size=40))
def test_any_file_is_read_or_refused(text: str) -> None:
    """Whatever the file holds: settings, or InvalidSettings."""
    try:
        from_file(text)
    except InvalidSettings:
        return
