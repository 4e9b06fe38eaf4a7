"""Addresses are written into manifests, plans and logs, so none may hold a password or a token."""

from urllib.parse import parse_qsl, urlsplit

from shards.errors import DatasetError

_SECRET_WORDS = ("signature", "sig", "token", "secret", "password", "credential", "key")


def refuse_secrets(address: str, error: type[Exception] = DatasetError) -> None:
    """Refuse `s3://key:secret@bucket`, signed links and the like.

    Args:
        address: as the user gave it.
        error: what to raise.

    Raises:
        DatasetError: it holds a secret, which the message does not repeat; or `error`.
    """
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    asked = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    secret = ":" in user or any(name.endswith(_SECRET_WORDS) for name in asked)
    if secret:
        shown = f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}"
        raise error(
            f"{shown}: the address holds a password or a token, and addresses are written into "
            "manifests and logs; take it out and set the storage's environment variables instead"
        )
