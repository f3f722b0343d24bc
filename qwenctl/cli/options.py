"""Options that several commands share, declared once."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the id, or the name.")]
InsecureRegistry = Annotated[
    list[str] | None,
    typer.Option(
        "--insecure-registry",
        metavar="HOST[:PORT]",
        help="Ask this registry for no certificate, nor for TLS; repeatable.",
    ),
]
ContextUrl = Annotated[
    str | None,
    typer.Option("--context-url", metavar="URL", help="Ask the runner there; or a context's name."),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model: NAME[:TAG], NAME@sha256:…, or an id.")]
