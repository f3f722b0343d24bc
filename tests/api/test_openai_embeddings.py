"""OpenAI's embeddings, by the public client."""

import math
import struct
from base64 import b64decode
from typing import Any

import httpx
import pytest

from qwenctl.api.openai_embeddings import floats, shortened
from qwenctl.errors import InvalidRequest, PromptTooLong
from tests.api.api_builders import ScriptedHost

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")


def embed(client: Any, text: Any = "hello", **fields: Any) -> Any:
    """The vectors of one text or several."""
    return client.embeddings.create(model="tiny", input=text, **fields)


def test_one_text(client: Any, host: ScriptedHost) -> None:
    """A vector with its index, and the tokens that it cost; the client asks for base64 by itself."""
    answer = embed(client)
    assert [(one.object, one.index) for one in answer.data] == [("embedding", 0)]
    assert answer.data[0].embedding == pytest.approx([math.cos(0.05), math.sin(0.05)])
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)


def test_several_texts(client: Any, host: ScriptedHost) -> None:
    """In order, in one request to the engine."""
    answer = embed(client, ["a", "bb", "ccc"])
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert [request.texts for request in host.embedded] == [("a", "bb", "ccc")]


def test_both_encodings_are_the_same(address: tuple[ScriptedHost, str], host: ScriptedHost) -> None:
    """Numbers, or base64 of little-endian 32-bit floats; numbers where the call says nothing."""
    url = f"{address[1]}/v1/embeddings"
    body = {"model": "tiny", "input": "hello"}
    packed = httpx.post(url, json=body | {"encoding_format": "base64"}).json()["data"][0]["embedding"]
    numbers = httpx.post(url, json=body).json()["data"][0]["embedding"]
    assert list(struct.unpack("<2f", b64decode(packed))) == numbers


def test_fewer_dimensions(client: Any, host: ScriptedHost) -> None:
    """The beginning of the vector, of length 1 again."""
    assert embed(client, dimensions=1).data[0].embedding == [1.0]
    assert floats(shortened(struct.pack("<3f", 3, 4, 5), 2)) == pytest.approx((0.6, 0.8))
    assert floats(shortened(struct.pack("<2f", 0, 1), 1)) == (0.0,)
    with pytest.raises(InvalidRequest, match="have 2"):
        shortened(struct.pack("<2f", 0, 1), 3)


def test_a_text_that_is_too_long(client: Any, host: ScriptedHost) -> None:
    """Is refused with the API's code, or cut where the call says so."""
    embed(client, extra_body={"overflow": "truncate"})
    assert host.embedded[-1].truncate
    host.error = PromptTooLong("the text has 9 tokens, the context holds 8")
    with pytest.raises(openai.BadRequestError) as caught:
        embed(client)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("text", "fields", "param"),
    [
        ([1, 2], {}, "input[0]"),
        ([[1], [2]], {}, "input[0]"),
        ([], {}, "input"),
        ("", {}, "input"),
        (["a", ""], {}, "input"),
        (["a"] * 2049, {}, "input"),
        ("a", {"dimensions": 0}, "dimensions"),
        ("a", {"dimensions": 3}, "dimensions"),
        ("a", {"encoding_format": "int8"}, "encoding_format"),
        ("a", {"extra_body": {"overflow": "shift"}}, "overflow"),
    ],
)
def test_refusals(client: Any, host: ScriptedHost, text: Any, fields: dict[str, Any], param: str) -> None:
    """With the field that is to blame."""
    with pytest.raises(openai.BadRequestError) as caught:
        embed(client, text, **fields)
    assert caught.value.param == param


def test_an_unknown_model(client: Any, host: ScriptedHost) -> None:
    """Is 404 here, too."""
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nowhere", input="x")
