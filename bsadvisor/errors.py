"""What we raise on purpose.

    BsadvisorError               message: what is wrong;  remedy: what to do;  exit_code
    ├── UsageError          2    flags, spec file, unknown key
    └── TargetError         4    the target could not be loaded or run, or the output not written
        ├── CheckpointError      a checkpoint that does not fit, is damaged, or asks for code
        ├── DataError            no data, too little of it, or not finite
        └── OutputError          a report that cannot be written

Anything else that escapes is a bug of ours (exit code 1, a traceback).
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_VIOLATION = 3
EXIT_TARGET = 4
EXIT_INCONCLUSIVE = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class BsadvisorError(Exception):
    """A failure that the user can mend: one line says what is wrong, one says what to do."""

    exit_code = EXIT_TARGET

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[BsadvisorError], tuple[str, str]]:
        """It may come from another process."""
        return type(self), (self.message, self.remedy)


class UsageError(BsadvisorError):
    """Flags or a spec file that cannot be understood."""

    exit_code = EXIT_USAGE


class TargetError(BsadvisorError):
    """The user's model, loss, data or device failed."""


class CheckpointError(TargetError):
    """A checkpoint that does not fit the model, is damaged, or asks for code to be run."""


class DataError(TargetError):
    """Data that is missing, too small, or not finite."""


class OutputError(TargetError):
    """A report that could not be written where it was asked for."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host refused PyTorch an allocation (told by name: no torch here)."""
    text = str(error).lower()
    refused = "out of memory" in text or "can't allocate memory" in text
    return type(error).__name__ == "OutOfMemoryError" or (isinstance(error, RuntimeError) and refused)
