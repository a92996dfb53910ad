"""The errors that a user can cause; the command line turns each into an exit code instead of a traceback."""


class InputError(ValueError):
    """A wrong value, found before any work; the message names field, value and what is allowed (exit code 2)."""


class FolderInUse(InputError):
    """Another process is training in this folder."""


class Interrupted(RuntimeError):
    """Work stopped by the user; what is on disk can be resumed (exit code 3)."""
