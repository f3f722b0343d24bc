"""Grammars that would end or stop llama.cpp, and those that must not be taken for one."""

from pathlib import Path

import pytest

from qwenctl.errors import GenerationFailed, InvalidRequest
from qwenctl.runtime.engine import ChatRequest, CompletionRequest, EngineOptions, Message
from qwenctl.runtime.gbnf_check import check_grammar
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.schema import grammar_of
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.test_schema_properties import CASES, PERSON


def doubled(count: int, end: str) -> str:
    """Rules of which each offers the next one twice."""
    rules = [f"a{number} ::= {end.format(f'a{number + 1}')}" for number in range(count)]
    return "\n".join(["root ::= a0", *rules, f'a{count} ::= "x" | ""'])


HOSTILE = {
    "groups": ("root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000, "groups in each other"),
    "alternatives": (doubled(40, "{0} | {0}"), "ways"),
    "what may be empty": (doubled(25, "{0} {0}"), "ways"),
    "a long chain": (doubled(12_000, "{}"), "ways"),
    "in the midst": (
        'root ::= "x" ' + "a " * 6 + "\na ::= b{200}\nb ::= c{100}\nc ::= " + '"x" | ""',
        "ways",
    ),
    "a long literal often": (f'root ::= "{"a" * 100_000}"{{2000}}', "written out"),
    "nothing repeated often": ('root ::= (("a"?){2000}){2000}', "ways"),
    "left recursion": ('root ::= root "a" | "b"', "left recursion"),
    "hidden left recursion": ('root ::= n root "z" | "x"\nn ::= m\nm ::= "" | "y"', "left recursion"),
    "a token behind a character": ('root ::= "<" <|im_start|>', "token"),
    "a token behind any": ("root ::= a b\na ::= c?\nb ::= c? d\nc ::= [a-z]+\nd ::= !<[5]> .*", "token"),
    "a token again": ('root ::= (<[5]> "a")+', "token"),
    "a group without its end": ('root ::= ("a"', "end"),
    "a rule without a name": ('::= "a"', "begin"),
    "no rule of that name": ("root ::= a | b\nb ::= a", "no rule `a`"),
    "a number": ('root ::= "a"{99999999999999999999}', "number"),
    "nothing repeated": ("root ::= *", "behind nothing"),
}

HARMLESS = {
    "arithmetic": r"""
# llama.cpp grammars/arithmetic.gbnf
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
""",
    "lines": 'root ::=\n  # a comment\n  "a" |\n\n "b" (\n "c"\n |\n "d" )\r\n\r\n x ::= "y"',
    "escapes": r'root ::= [^\]"] "\"\x41\u00e9" [\]\-a-] [] "é"',
    "tokens": "root ::= <think> (!</think>)* </think> [a-z]{3,5} .*",
    "numbers": 'root ::= "a"{2} "b"{2,} "c"{0,3}{2} [0-9]{ 1 , 3000 }',
    "a rule twice": 'root ::= root "a"\nroot ::= "b"',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused(name: str) -> None:
    """With what is wrong with it, long before llama.cpp sees it."""
    grammar, reason = HOSTILE[name]
    with pytest.raises(InvalidRequest, match=reason):
        check_grammar(grammar)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_grammar_passes(name: str) -> None:
    """In all of the language."""
    check_grammar(HARMLESS[name])


def test_grammars_of_schemas_pass() -> None:
    """Large ones too: thousands of values, hundreds of properties and tools."""
    schemas = [schema for schema, _ in CASES]
    schemas += [
        {"enum": [f"value {number}" for number in range(5000)]},
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(400)}},
        {"type": "array", "items": {"type": "string", "maxLength": 900}, "maxItems": 900},
        {"type": "string", "minLength": 20_000, "maxLength": 49_000},
    ]
    for schema in schemas:
        check_grammar(grammar_of(schema))
    tools = [{"function": {"name": f"t{number}", "parameters": PERSON}} for number in range(200)]
    for choice in ("auto", "required"):
        check_grammar(tool_guidance(tools, choice)["grammar"])


def test_an_engine_refuses_them(tmp_path: Path) -> None:
    """Also where a grammar begins to rule behind reasoning, which is made of characters."""
    template = "{% for message in messages %}{{ message.content }}{% endfor %}<think>"
    engine = open_engine(EngineOptions(path=write_tiny_model(tmp_path / "tiny.gguf", template=template)))
    token = Sampling(grammar="root ::= !<[5]>")
    engine.start(CompletionRequest(prompt="x", sampling=token, max_tokens=1), lambda event: None)
    with pytest.raises(InvalidRequest, match="token"):
        engine.count_tokens(ChatRequest(messages=(Message("user", "x"),), sampling=token))
    with pytest.raises(InvalidRequest, match="left recursion"):
        engine.count_tokens(
            CompletionRequest(prompt="x", sampling=Sampling(grammar=HOSTILE["hidden left recursion"][0]))
        )
    engine.close()


@pytest.mark.slow
def test_an_ambiguous_grammar_ends_its_own_request_alone(tmp_path: Path) -> None:
    """How many ways of reading a text there will be shows only then, in seconds of the processor."""
    engine = open_engine(EngineOptions(path=write_tiny_model(tmp_path / "tiny.gguf"), threads=1))
    ambiguous = "root ::= s\ns ::= . s t | . s u | .\nt ::= .\nu ::= ."
    with pytest.raises(GenerationFailed, match="ambiguous"):
        list(engine.generate(CompletionRequest(prompt="x", sampling=Sampling(grammar=ambiguous))))
    assert list(engine.generate(CompletionRequest(prompt="x", max_tokens=2)))
    engine.close()
