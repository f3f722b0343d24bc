"""Settings: where they come from, which wins, what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import InvalidSettings
from qwenctl.settings import DEFAULT_PORT, FILE_KEYS, Directories, Settings, also_insecure, resolve

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
        mirrors={},
        ca_bundle=None,
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
        (
            "mirrors",
            "mirrors",
            "QWENCTL_MIRRORS",
            ("a.b=http://c", "a.b = https://c:1/p/, http://d ; E.F=http://g;", "a.b="),
            (
                {"a.b": ("http://c",)},
                {"a.b": ("https://c:1/p", "http://d"), "e.f": ("http://g",)},
                {"a.b": ()},
            ),
        ),
        (
            "ca_bundle",
            "ca_bundle",
            "QWENCTL_CA_BUNDLE",
            ("/1", "/2", "/3"),
            (Path("/1"), Path("/2"), Path("/3")),
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
        ("host", "host", "QWENCTL_HOST", ("::1", "0.0.0.0", "localhost"), ("::1", "0.0.0.0", "localhost")),
        (
            "api_key_file",
            "api_key_file",
            "QWENCTL_API_KEY_FILE",
            ("/1", "/2", "/3"),
            (Path("/1"), Path("/2"), Path("/3")),
        ),
        (
            "cors",
            "cors",
            "QWENCTL_CORS",
            ("*", "https://a/, app://b", "null"),
            (("*",), ("https://a", "app://b"), ("null",)),
        ),
        ("max_models", "max_models", "QWENCTL_MAX_MODELS", ("1", "2", "30"), (1, 2, 30)),
        ("max_queue", "max_queue", "QWENCTL_MAX_QUEUE", ("1", "2", "30"), (1, 2, 30)),
        (
            "request_timeout_seconds",
            "request_timeout",
            "QWENCTL_REQUEST_TIMEOUT",
            ("90s", "-1", "0.5"),
            (90.0, float("inf"), 0.5),
        ),
        ("save_chats", "save_chats", "QWENCTL_SAVE_CHATS", ("no", "TRUE", "off"), (False, True, False)),
        ("hub", "hub", "QWENCTL_HUB", ("http://a", "https://b/", "none"), ("http://a", "https://b", "")),
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


def test_mirrors_in_the_file_are_a_mapping_of_lists() -> None:
    """A registry with its mirrors in their order; one address may stand alone, none is none."""
    text = """
    mirrors:
      docker.io: [https://mirror.example:5000, http://127.0.0.1:5001/prefix/]
      ghcr.io: https://other.example
      quay.io:
    """
    assert from_file(text).mirrors == {
        "docker.io": ("https://mirror.example:5000", "http://127.0.0.1:5001/prefix"),
        "ghcr.io": ("https://other.example",),
        "quay.io": (),
    }
    assert from_file("mirrors:").mirrors == from_file("mirrors: {}").mirrors == {}


def test_a_mirrors_password_is_refused_and_not_repeated() -> None:
    """Credentials are filed where all of them are."""
    for url in ("https://me:secret@a.b", "https://me:secret@a.b:x", "https://me:secret,x@a.b"):
        with pytest.raises(InvalidSettings) as caught:
            resolve({}, {"QWENCTL_MIRRORS": f"a.b={url}"}, "", DIRECTORIES)
        assert "secret" not in f"{caught.value.message}{caught.value.hint}"


def test_openssls_own_variable_names_a_bundle_too() -> None:
    """The nearer settings win over it; it is as absolute as they are."""
    environ = {"SSL_CERT_FILE": "/ssl.pem"}
    assert resolve({}, environ, "", DIRECTORIES).ca_bundle == Path("/ssl.pem")
    assert resolve({}, environ, "ca_bundle: /file.pem", DIRECTORIES).ca_bundle == Path("/file.pem")
    assert resolve({}, environ | {"QWENCTL_CA_BUNDLE": "/own.pem"}, "", DIRECTORIES).ca_bundle == Path(
        "/own.pem"
    )


def test_insecure_registries_of_the_flag_are_added() -> None:
    """They stand beside those of the settings; what is no host is refused with the flag's name."""
    settings = from_file("insecure_registries: a:1")
    assert also_insecure(settings, ["B:2", "c"]).insecure_registries == {"a:1", "b:2", "c"}
    assert also_insecure(settings, []) == settings
    with pytest.raises(InvalidSettings, match=r"^--insecure-registry: `http://a` is not a registry"):
        also_insecure(settings, ["http://a"])


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
        ("insecure_registries: [http://a]", "`insecure_registries`: `http://a` is not a registry"),
        ("mirrors: [a.b]", "`mirrors`: a mirror belongs to a registry"),
        ("mirrors: {a.b: c.d}", "`mirrors`: `c.d` is not a mirror"),
        ("mirrors: {a.b: 'ftp://c.d'}", "is not a mirror"),
        ("mirrors: {a.b: 'http://c.d/?x=y'}", "is not a mirror"),
        ("mirrors: {a.b: 'http://c d'}", "is not a mirror"),
        ("mirrors: {a.b: 'http://c:99999'}", "is not a mirror"),
        ("mirrors: {a.b: {c: d}}", "`a.b` is not a single value"),
        ("mirrors: {a.b: [{c: d}]}", "is not a mirror"),
        ("mirrors: {a: 'http://c'}", "`mirrors`: `a` is not a registry"),
        ("ca_bundle:", "`ca_bundle`: the path is empty"),
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
