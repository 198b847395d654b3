"""Exceptions that reach a user as a sentence."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence with the value, the reason and the fix. The command line prints it without a
    traceback and exits with code 2; nothing that existed before is lost.
    """


class TemporaryError(Exception):
    """Something outside the run went wrong: another attempt may succeed, and the job layer makes it.

    The message is one sentence for people. The command line prints it and exits with TEMPORARY.
    """


TEMPORARY = 75
"""The exit code EX_TEMPFAIL of <sysexits.h>."""
