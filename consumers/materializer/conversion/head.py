"""The ports of a ServiceEntry, as the service's instances vote. Pure.

Each instance that Pilots get has one vote on the number of the main port (what `service-port` names, else its
own), one on its protocol (what its metadata names, else the settings' default), and one on each further port. The
most frequent number and protocol win, of equally frequent ones the smallest; a further port is there where more
than half of the votes name it.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from consumers.materializer.conversion.folded_instance import FoldedInstance, FurtherPort, PortNames, port_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.rule_settings import RuleSet

_T = TypeVar("_T", int, str)


class Port(NamedTuple):
    """A port of a ServiceEntry; every endpoint that has it maps its name to its own number."""

    name: str
    number: int
    protocol: str


class Head(NamedTuple):
    """What a ServiceEntry says of ports, the main one first; names and numbers are unique."""

    ports: tuple[Port, ...]
    names: PortNames


def elect(voters: Sequence[FoldedInstance]) -> Head:
    """The head that these instances vote for; there is at least one."""
    number = _most_frequent([one.logical_port or one.port for one in voters])
    protocol = _most_frequent([one.protocol for one in voters])
    further: list[FurtherPort] = []
    named = [port for one in voters if one.further for port in one.further]
    if named:
        votes = Counter((port.key, port.protocol) for port in named)
        for (key, of_key), count in sorted(votes.items()):
            if count * 2 > len(voters):
                numbers = [port.number for port in named if port.key == key and port.protocol == of_key]
                further.append(FurtherPort(key, of_key, _most_frequent(numbers)))
    return head_of(number, protocol, tuple(further))


@lru_cache(maxsize=65536)
def head_of(number: int, protocol: str, further: tuple[FurtherPort, ...]) -> Head:
    """The head with this main port and those further ones whose numbers are free, in the order of their keys."""
    main = Port(port_name(protocol), number, protocol)
    ports, keys = [main], []
    names, numbers = {main.name}, {number}
    for key, of_key, wanted in sorted(further):
        name = next((one for one in (key, f"{port_name(of_key)}-{wanted}") if one not in names), None)
        if name is None or wanted in numbers:
            continue
        ports.append(Port(name, wanted, of_key))
        keys.append((key, name))
        names.add(name)
        numbers.add(wanted)
    return Head(tuple(ports), PortNames(main.name, tuple(keys)))


def as_vote(head: Head) -> FoldedInstance:
    """An instance that votes for the head; it has no endpoint."""
    main = head.ports[0]
    further = tuple(
        FurtherPort(key, port.protocol, port.number)
        for (key, _), port in zip(head.names.further, head.ports[1:], strict=True)
    )
    return FoldedInstance(0, b"", 0, main.number, main.protocol, main.number, further)


def ruled(head: Head, wanted: RuleSet) -> Head:
    """The head with the ports or the protocol that rules set."""
    if wanted.ports is not None:
        ports = tuple(Port(one.name or port_name(one.protocol), one.number, one.protocol) for one in wanted.ports)
        return Head(ports, PortNames(ports[0].name, tuple((port.name, port.name) for port in ports[1:])))
    if wanted.protocol is None:
        return head
    further = [
        FurtherPort(key, port.protocol, port.number)
        for (key, _), port in zip(head.names.further, head.ports[1:], strict=True)
    ]
    return head_of(head.ports[0].number, wanted.protocol, tuple(further))


def _most_frequent(values: list[_T]) -> _T:
    if values.count(values[0]) == len(values):  # nearly always, and far cheaper than counting each
        return values[0]
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
