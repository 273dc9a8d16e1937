"""What a check finds: `Ok`, or what is `Missing`, why, and how to mend it. Doctor, start-up and the tests share these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ok:
    """All is as it should be; `detail` says what was found."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something is not there: why, how to mend it, and what is lost without it."""

    why: str
    fix: str
    lost: str = ""
