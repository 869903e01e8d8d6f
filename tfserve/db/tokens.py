"""Access tokens and the administrator's password as rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from tfserve.access import secrets
from tfserve.access.principals import ASSIGNABLE, Scope
from tfserve.db.models import EndedSession, Token, User
from tfserve.errors import Conflict, Invalid, NotFound, nearest
from tfserve.ipc.messages import CreateToken, NewToken, TokenDigest, TokenInfo, TokenRule

ADMINISTRATOR = "admin"


class TokenExists(Conflict):
    """There is already a token {name!r}. Choose another name, rotate it for a new secret, or revoke it first."""


class TokenExpired(Conflict):
    """Token {name!r} has expired, so a new secret would not be accepted. Create it again with the same name."""


class NoSuchToken(NotFound):
    """Token {name!r} not found{hint}: it never existed, or was revoked. GET /tokens/ lists the tokens."""


def create(request: CreateToken) -> NewToken:
    """Raises `Invalid`, `TokenExists`."""
    _check(request)
    now = timezone.now()
    expires_at = None if request.expires_s is None else now + timedelta(seconds=request.expires_s)
    secret = secrets.new_secret()
    token = Token(
        name=request.name, scopes=sorted(set(request.scopes)), workspaces=request.workspaces,
        digest=_hex(secret), created_by=request.created_by, expires_at=expires_at,
    )  # fmt: skip
    # An expired token makes room for a new one with its name.
    _living().filter(name=request.name, expires_at__lte=now).update(revoked_at=now)
    try:
        with transaction.atomic():
            token.save(force_insert=True)
    except IntegrityError:
        raise TokenExists(name=request.name) from None
    return NewToken(secret, _info(token))


def rotate(name: str, grace_s: float) -> NewToken:
    """Gives a token a new secret. The old one is valid for the grace period. Raises `NoSuchToken`, `TokenExpired`."""
    token = _find(name)
    if _state(token) == "expired":
        raise TokenExpired(name=name)
    secret = secrets.new_secret()
    token.previous_digest, token.digest = token.digest, _hex(secret)
    token.previous_until = timezone.now() + timedelta(seconds=grace_s)
    token.save(update_fields=["digest", "previous_digest", "previous_until"])
    return NewToken(secret, _info(token))


def revoke(name: str) -> TokenInfo:
    """Raises `NoSuchToken`."""
    token = _find(name)
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    return _info(token)


def listing() -> list[TokenInfo]:
    """All tokens, newest first, with the revoked ones."""
    return [_info(token) for token in Token.objects.order_by("-pk")]


def rules() -> list[TokenRule]:
    """The tokens that may be used now or, if the clock is set back, later."""
    return [_rule(token) for token in _living()]


def exist() -> bool:
    """Whether there ever was a token. A server whose last token was revoked stays closed."""
    return Token.objects.exists()


def note_use(used: Mapping[int, float]) -> None:
    """Records the last uses. A process may report late, so a time never goes back."""
    for token_id, time_s in used.items():
        at = datetime.fromtimestamp(time_s, UTC)
        earlier = Q(last_used_at=None) | Q(last_used_at__lt=at)
        Token.objects.filter(earlier, pk=token_id).update(last_used_at=at)


# --- people


def has_password() -> bool:
    return User.objects.exists()


def set_password(password_hash: str) -> str:
    """Sets the administrator's password and returns the user name."""
    User.objects.update_or_create(username=ADMINISTRATOR, defaults={"password": password_hash})
    return ADMINISTRATOR


def end_session(log_in_id: str, lasts: timedelta) -> None:
    """From now on, no copy of this log-in's cookie is accepted. Forgets those that have expired by themselves."""
    now = timezone.now()
    EndedSession.objects.filter(ended_at__lt=now - lasts).delete()
    EndedSession.objects.get_or_create(log_in_id=log_in_id, defaults={"ended_at": now})


# --- parts


def _check(request: CreateToken) -> None:
    if not secrets.is_name(request.name):
        raise Invalid(
            f"{request.name[:80]!r} is not a valid token name. Expected 1 to 64 letters, digits, '.', '_' or '-',"
            " starting with a letter or digit.",
            field="name",
        )
    if not request.scopes:
        raise Invalid(f"A token needs at least one scope: {', '.join(ASSIGNABLE)}.", field="scopes")
    for scope in request.scopes:
        if scope not in ASSIGNABLE:
            hint = nearest(scope, ASSIGNABLE)
            raise Invalid(f"Unknown scope {scope[:40]!r}{hint}. Choose from {', '.join(ASSIGNABLE)}.", field="scopes")
    if request.workspaces is not None and Scope.ADMIN in request.scopes:
        raise Invalid("A token with the scope admin can use all workspaces. Omit the workspaces.", field="workspaces")
    if request.workspaces is not None and not request.workspaces:
        raise Invalid("Name at least one workspace, or omit the workspaces to allow all.", field="workspaces")


def _living() -> QuerySet[Token]:
    return Token.objects.filter(revoked_at=None)


def _find(name: str) -> Token:
    found = _living().filter(name=name).first()
    if found is None:
        raise NoSuchToken(name=name[:80], hint=nearest(name, _living().values_list("name", flat=True)))
    return found


def _hex(secret: str) -> str:
    return secrets.digest(secret.encode()).hex()


def _rule(token: Token) -> TokenRule:
    digests = [_digest(token.digest, token.expires_at)]
    if token.previous_digest is not None and token.previous_until is not None:
        ends = [each for each in (token.previous_until, token.expires_at) if each is not None]
        digests.append(_digest(token.previous_digest, min(ends)))
    return TokenRule(token.pk, token.name, token.scopes, token.workspaces, digests)


def _digest(digest: str, until: datetime | None) -> TokenDigest:
    return TokenDigest(bytes.fromhex(digest), None if until is None else until.timestamp())


def _info(token: Token) -> TokenInfo:
    return TokenInfo(
        name=token.name,
        scopes=token.scopes,
        state=_state(token),
        workspaces=token.workspaces,
        created_at=token.created_at.isoformat(timespec="seconds"),
        created_by=token.created_by,
        expires_at=_text(token.expires_at),
        last_used_at=_text(token.last_used_at),
        revoked_at=_text(token.revoked_at),
        previous_valid_until=_text(token.previous_until),
    )


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= timezone.now() else "active"


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")
