"""A person's yes before somebody is trusted: the fingerprint is shown, compared, and agreed to."""

from sordino_protocols.errors import AuthenticationError
from sordino_protocols.terminal import confirm


def require_agreement(
    question: str, fingerprint: str, *, expected: str | None, is_agreed: bool
) -> None:
    """Return if whoever runs this agrees to trust what has this fingerprint.

    Args:
        question: asked on a terminal, if neither of the other two settles it.
        fingerprint: of what is to be trusted.
        expected: the fingerprint that a person got on another way, such as by telephone.
        is_agreed: the person said yes to whatever it is.

    Raises:
        AuthenticationError: the fingerprint is not the expected one.
        InputError: nobody can be asked.
        typer.Abort: the person said no.
    """
    if expected is not None:
        if _digits(expected) != _digits(fingerprint):
            raise AuthenticationError(
                f"the fingerprint is {fingerprint}, not the one expected: somebody changed the"
                " file on its way, or it is another file"
            )
        return
    confirm(question, yes=is_agreed)


def _digits(fingerprint: str) -> str:
    return fingerprint.replace(":", "").replace(" ", "").lower()
