"""What a server refuses to tell: set aside with the reason, and asked for again now and then. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from producers.errors import NacosRefusedError
from runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

K = TypeVar("K")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_BAD_PARAMETERS = frozenset({400, -400})


@dataclass(slots=True)
class Refusal:
    """Why one thing can't be had, and when it is asked for again, on the caller's clock."""

    error: Exception
    ask_again_at: float
    backoff: Backoff

    @property
    def reason(self) -> str:
        """The error in words."""
        return str(self.error) or type(self.error).__name__

    @property
    def is_lasting(self) -> bool:
        """Whether it would be refused again at once; see `NacosRefusedError`."""
        return isinstance(self.error, NacosRefusedError) and self.error.is_lasting


@dataclass(slots=True)
class Refusals(Generic[K]):
    """The refusals of one owner by what was asked for; each is asked for again after 1 s, then 2, up to 60.

    Changed by one thread; the properties may be read on others.
    """

    _refused: dict[K, Refusal] = field(default_factory=dict)

    def __contains__(self, key: K) -> bool:
        return key in self._refused

    def __len__(self) -> int:
        return len(self._refused)

    def __iter__(self) -> Iterator[K]:
        return iter(self._refused)

    @property
    def reasons(self) -> dict[K, str]:
        """Why each can't be had."""
        return {key: refusal.reason for key, refusal in list(self._refused.items())}

    @property
    def first(self) -> str:
        """One of them and its reason, as an example; empty where there is none."""
        for key, refusal in list(self._refused.items())[:1]:
            return f"{'@@'.join(key) if isinstance(key, tuple) else key}: {refusal.reason}"
        return ""

    def note(self, key: K, error: Exception, now: float) -> bool:
        """Notes that it was refused; whether that is news, because of another reason or none before."""
        former = self._refused.get(key)
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S) if former is None else former.backoff
        refusal = self._refused[key] = Refusal(error, now + backoff.pause_s(0.0), backoff)
        return former is None or former.reason != refusal.reason

    def refuse_all(self, keys: Collection[K]) -> Exception | None:
        """The error, where each of these is refused and not for its name: then the server is at fault."""
        if not keys or len(self._refused) < len(keys):
            return None
        refusals = [self._refused.get(key) for key in list(keys)]
        errors = [refusal.error for refusal in refusals if refusal is not None]
        if len(errors) < len(refusals):
            return None
        return next((error for error in errors if not _is_about_parameters(error)), None)

    def settle(self, key: K) -> None:
        """It is known now, or of no interest any more."""
        self._refused.pop(key, None)

    def due(self, now: float) -> list[K]:
        """Those that it is time to ask for again."""
        return [key for key, refusal in self._refused.items() if refusal.ask_again_at <= now]

    def passing(self, keys: Iterable[K]) -> list[K]:
        """Those of these keys whose refusal may be over in a moment."""
        return [key for key in keys if (one := self._refused.get(key)) is not None and not one.is_lasting]


def _is_about_parameters(error: Exception) -> bool:
    return isinstance(error, NacosRefusedError) and error.code in _BAD_PARAMETERS
