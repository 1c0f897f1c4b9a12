"""The one kind of error a user can mend: its text is a single line that names the thing and the mend."""


class InputError(Exception):
    """An input, option or model folder is wrong. ``lckd`` prints it as one line and ends with exit status 2."""


class Cancelled(BaseException):
    """The user stopped the work; nothing is left behind. ``lckd`` ends with exit status 130.

    No ``Exception``: libraries that catch those and go on, or tell them as their own, let it through.
    """
