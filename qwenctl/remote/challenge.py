"""What a 401 asks for: the challenges of `WWW-Authenticate`, several headers joined by commas.

Source: RFC 9110 section 11.6.1 (grammar); distribution's token specification (`realm`, `service`, `scope`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME: Final = re.compile(rf"\s*,?\s*({_WORD})(?=\s|,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges in order; what breaks the grammar ends the list. Never raises."""
    challenges: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position, parameters = match.end(), {}
        while parameter := _PARAMETER.match(header, position):
            quoted = parameter[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3]
            parameters[parameter[1].lower()] = value
            position = parameter.end()
        challenges.append(Challenge(match[1].lower(), parameters))
    return tuple(challenges)


def best_challenge(header: str) -> Challenge | None:
    """The first Bearer challenge, else the first Basic one; None for neither."""
    challenges = parse_challenges(header)
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None
