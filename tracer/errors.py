"""The one error that users see: what is wrong, what to do about it, and the exit code."""

from __future__ import annotations

USAGE = 2
MISSING_PRECONDITION = 3


class TcptraceError(Exception):
    """Something that the user can mend. The command line prints it in two lines and exits with `exit_code`."""

    def __init__(self, cause: str, remedy: str, exit_code: int = MISSING_PRECONDITION) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.exit_code = exit_code
