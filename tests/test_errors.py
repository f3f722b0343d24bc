"""The error tree: codes, exit statuses, and the drawing of it."""

import re

import pytest

from qwenctl import errors
from qwenctl.errors import QwenctlError, UsageError, error_class, error_classes

EXIT_STATUSES = {
    "QwenctlError": 1,
    "UsageError": 2,
    "NotFound": 3,
    "RemoteError": 4,
    "IntegrityError": 5,
    "DoesNotFit": 6,
    "EngineError": 7,
    "Interrupted": 130,
}


def test_the_drawing_is_the_tree() -> None:
    """The module's docstring lists every class below its parent, with its exit status."""
    drawn = re.findall(r"^([│├└─ ]*)([A-Z]\w+) +(\d+)", errors.__doc__ or "", re.MULTILINE)
    depth = {"": 0}
    expected = []
    for cls in error_classes():
        depth[cls.__name__] = depth.get(cls.__bases__[0].__name__, -1) + 1
        expected.append((depth[cls.__name__], cls.__name__, cls.exit_code))
    assert [(len(lead) // 4, name, int(status)) for lead, name, status in drawn] == expected


def test_codes_are_unique() -> None:
    """A program can tell every class by its code alone."""
    codes = [cls.code for cls in error_classes()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_the_family_fixes_the_exit_status(cls: type[QwenctlError]) -> None:
    """A class exits as the branch it is on, says what it means, and is found by its code."""
    family = next(base for base in cls.__mro__ if base.__name__ in EXIT_STATUSES)
    assert cls.exit_code == EXIT_STATUSES[family.__name__]
    assert cls.__doc__
    assert error_class(cls.code) is cls


def test_unknown_codes_become_the_root() -> None:
    """The code of a newer peer is still an error."""
    assert error_class("from_the_future") is QwenctlError


def test_an_error_has_a_message_and_perhaps_a_hint() -> None:
    """`str` is the message; the hint stands apart."""
    error = UsageError("`x` is wrong", hint="write y")
    assert (str(error), error.message, error.hint) == ("`x` is wrong", "`x` is wrong", "write y")
    assert UsageError("x").hint is None
