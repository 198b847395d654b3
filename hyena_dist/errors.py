"""The one exception that reaches a user as a sentence."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence with the value, the reason and the fix. The command line prints it without a
    traceback and exits with code 2; nothing that existed before is lost.
    """
