"""Weights whose sum Envoy can hold. Pure.

Envoy adds the weights of a cluster's endpoints up in 32 bits, and those of a locality, and refuses a cluster whose
sum is greater. All of a service's weights are divided by one number then: their ratios stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.materializer.conversion.folded_instance import frame_endpoint, unframe_endpoint
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SUM = (1 << 32) - 1


def divisor_of(total: int, count: int) -> int:
    """What the weights of so many endpoints, so many in all, are divided by: a power of 2, nearly always 1.

    A weight that becomes 0 is 1 again, so each endpoint may add one.
    """
    divisor = 1
    while total // divisor + count > MAX_SUM and divisor < total:
        divisor *= 2
    return divisor


def divide(endpoints: Sequence[bytes], divisor: int) -> list[bytes]:
    """The endpoints with their weights divided."""
    divided = []
    for endpoint in endpoints:
        entry = WorkloadEntry.FromString(unframe_endpoint(endpoint))
        entry.weight = max(1, entry.weight // divisor)
        divided.append(frame_endpoint(entry))
    return divided
