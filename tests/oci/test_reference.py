"""References: the grammar, the defaults, the short forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import InvalidReference
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import BUILT_IN, Reference, is_repository, is_tag

HEX = "a" * 64

GOOD = {
    "qwen2.5": "docker.io/ai/qwen2.5:latest",
    "qwen2.5:7B-Q4_K_M": "docker.io/ai/qwen2.5:7B-Q4_K_M",
    "Qwen2.5-7B-Instruct": "docker.io/ai/qwen2.5-7b-instruct:latest",
    " qwen2.5 ": "docker.io/ai/qwen2.5:latest",
    "me/model": "docker.io/me/model:latest",
    "a/b/c": "docker.io/a/b/c:latest",
    "docker.io/qwen2.5": "docker.io/ai/qwen2.5:latest",
    "index.docker.io/ai/qwen2.5": "docker.io/ai/qwen2.5:latest",
    "registry-1.docker.io/me/model": "docker.io/me/model:latest",
    "ghcr.io/a/b:V1": "ghcr.io/a/b:V1",
    "GHCR.io/A/b": "ghcr.io/a/b:latest",
    "hf.co/Qwen/Qwen2.5-7B": "hf.co/qwen/qwen2.5-7b:latest",
    "localhost/x": "localhost/x:latest",
    "LocalHost/x": "localhost/x:latest",
    "localhost": "docker.io/ai/localhost:latest",
    "localhost:5000": "docker.io/ai/localhost:5000",
    "localhost:5000/x": "localhost:5000/x:latest",
    "localhost:5000/x:5000": "localhost:5000/x:5000",
    "host:65535/x": "host:65535/x:latest",
    "[::1]:5000/x": "[::1]:5000/x:latest",
    "127.0.0.1/x": "127.0.0.1/x:latest",
    "ex.com": "docker.io/ai/ex.com:latest",
    f"x@sha256:{HEX}": f"docker.io/ai/x@sha256:{HEX}",
    f"x:t@sha256:{HEX}": f"docker.io/ai/x:t@sha256:{HEX}",
    f"localhost:5000/me/m@sha512:{HEX}{HEX}": f"localhost:5000/me/m@sha512:{HEX}{HEX}",
    "qwenctl.internal/guide": "qwenctl.internal/guide:latest",
}


@pytest.mark.parametrize(("text", "full"), GOOD.items())
def test_short_names_are_completed(text: str, full: str) -> None:
    """What people type becomes the full name, which parses to itself."""
    reference = Reference.parse(text)
    assert str(reference) == full
    assert Reference.parse(full) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        ":",
        "@",
        ":tag",
        "a:",
        "a@",
        "a/",
        "/a",
        "a//b",
        "a/b/",
        "a b",
        "a\tb",
        "a\nb",
        "a..b",
        "a.-b",
        "a___b",
        "-a",
        "a-",
        ".a",
        "_a",
        "a:b:c",
        "a:-b",
        "a:.b",
        f"a:{'b' * 129}",
        "a:b c",
        "a:b/c",
        "a/b:c/d",
        "../x",
        "x/../y",
        "x/./y",
        "ex.com/",
        "ex.com//x",
        "http://x/y",
        "https://ghcr.io/a/b",
        "-host.com/x",
        "host-.com/x",
        "ho_st.com/x",
        "host.com:/x",
        "host:65536/x",
        "host:99999/x",
        "host:123456/x",
        "[::1/x",
        "[zz]:1/x",
        "user@host/x",
        "user:pass@host/x",
        "a@sha256:",
        "a@sha256:short",
        f"a@sha256:{HEX.upper()}",
        f"a@md5:{'a' * 32}",
        f"a@sha256:{HEX}@sha256:{HEX}",
        f"@sha256:{HEX}",
        "ü",
        "a/\N{CYRILLIC SMALL LETTER A}",
        "a" * 253,
        "a/" * 200 + "a",
        "\N{LATIN SMALL LETTER LONG S}",
        "a\0",
        "%2e%2e/x",
        "a?b",
        "a#b",
        "a\\b",
    ],
)
def test_what_the_grammar_refuses(text: str) -> None:
    """Bad names raise InvalidReference with a hint, whatever is wrong with them."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.hint
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    ("text", "registry", "namespace", "full"),
    [
        ("x", "ghcr.io", "ai", "ghcr.io/ai/x:latest"),
        ("x", "localhost:5000", "me", "localhost:5000/me/x:latest"),
        ("a/x", "GHCR.IO", "ai", "ghcr.io/a/x:latest"),
        ("x", "index.docker.io", "ai", "docker.io/ai/x:latest"),
        ("quay.io/x", "ghcr.io", "ai", "quay.io/x:latest"),
    ],
)
def test_defaults_can_be_others(text: str, registry: str, namespace: str, full: str) -> None:
    """The default registry and namespace complete what the text leaves out, in normal form."""
    assert str(Reference.parse(text, registry=registry, namespace=namespace)) == full


@pytest.mark.parametrize("registry", ["myhost", "", "a b.com", "http://x", "x/y.z"])
def test_a_default_registry_must_look_like_one(registry: str) -> None:
    """A default that would not be read back as a host is refused: its names could not be found again."""
    with pytest.raises(InvalidReference, match="is not a host"):
        Reference.parse("x", registry=registry)


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("docker.io/ai/qwen2.5:latest", "qwen2.5"),
        ("docker.io/ai/qwen2.5:7B", "qwen2.5:7B"),
        ("docker.io/me/model:latest", "me/model"),
        ("docker.io/ai/a/b:latest", "ai/a/b"),
        ("docker.io/a/b/c:x", "a/b/c:x"),
        ("docker.io/ex.com/x:latest", "docker.io/ex.com/x"),
        ("docker.io/localhost/x:latest", "docker.io/localhost/x"),
        ("ghcr.io/ai/x:latest", "ghcr.io/ai/x"),
        ("localhost:5000/x:v1", "localhost:5000/x:v1"),
        (f"docker.io/ai/x@sha256:{HEX}", f"x@sha256:{HEX}"),
        (f"docker.io/ai/x:latest@sha256:{HEX}", f"x:latest@sha256:{HEX}"),
    ],
)
def test_familiar_forms(full: str, short: str) -> None:
    """The short form leaves out what the defaults bring back, and no more."""
    reference = Reference.parse(full)
    assert reference.familiar() == short
    assert Reference.parse(short) == reference


def test_built_in_names_are_short() -> None:
    """A built-in model is shown by its bare name, unless that would look like a namespace."""
    assert Reference(BUILT_IN, "guide", "latest").familiar() == "guide"
    assert Reference(BUILT_IN, "guide", "Q8_0").familiar() == "guide:Q8_0"
    assert Reference(BUILT_IN, "a/b", "latest").familiar() == "qwenctl.internal/a/b"


def test_pins() -> None:
    """A digest pins; `at` drops the tag, `tagged` the digest; `version` is what a registry is asked for."""
    digest = Digest.parse(f"sha256:{HEX}")
    reference = Reference.parse("x:t")
    assert (reference.pinned, reference.version) == (False, "t")
    pinned = reference.at(digest)
    assert (pinned.pinned, pinned.version, pinned.tag) == (True, str(digest), None)
    assert pinned.tagged("u") == Reference.parse("x:u")
    assert Reference("h.io", "x").version == "latest"


@pytest.mark.parametrize("tag", ["", "a b", "-a", "a/b", "a:b", "a" * 129])
def test_tagging_checks_the_tag(tag: str) -> None:
    """`tagged` takes no more than the grammar does."""
    with pytest.raises(InvalidReference):
        Reference.parse("x").tagged(tag)


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("a", True, True),
        ("a" * 128, True, True),
        ("a" * 129, True, False),
        ("a" * 255, True, False),
        ("a" * 256, False, False),
        ("a/b", True, False),
        ("A", False, True),
        ("_a", False, True),
        ("a.b", True, True),
        ("a..b", False, True),
        ("", False, False),
        ("a\n", False, False),
    ],
)
def test_the_two_grammars(text: str, repository: bool, tag: bool) -> None:
    """Repositories and tags follow the two expressions of the specification ("Pulling manifests")."""
    assert is_repository(text) is repository
    assert is_tag(text) is tag


def test_references_sort() -> None:
    """References order by registry, repository, tag."""
    texts = ["b", "a:2", "a:1", "ghcr.io/a/a", "me/a"]
    assert [r.familiar() for r in sorted(map(Reference.parse, texts))] == [
        "a:1",
        "a:2",
        "b",
        "me/a",
        "ghcr.io/a/a",
    ]


@given(st.text(max_size=60) | st.text(alphabet="aB0.:/@-_[] ", max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Whatever is typed: a reference whose full and familiar forms lead back to it, or InvalidReference."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert is_repository(reference.repository)
    if reference.registry != BUILT_IN:
        assert Reference.parse(reference.familiar()) == reference


PART = st.from_regex(r"[a-z0-9]{1,4}(?:[._-][a-z0-9]{1,4})?", fullmatch=True)
HOST = st.sampled_from(["docker.io", "ghcr.io", "localhost", "localhost:5000", "10.0.0.1", "[::1]:80"])


@given(
    HOST,
    st.lists(PART, min_size=2, max_size=4),
    st.from_regex(r"\w[\w.-]{0,9}", fullmatch=True).filter(str.isascii),
)
def test_every_full_name_comes_back(host: str, parts: list[str], tag: str) -> None:
    """A reference made of valid parts survives writing and reading in both forms."""
    reference = Reference(host, "/".join(parts), tag)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference
