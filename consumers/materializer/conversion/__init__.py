"""From what Nacos knows to what Istio reads. Pure: equal content gives equal bytes.

`REVISION` names the conversion: a change of its output is a new revision, so that an audit can tell a
changed conversion from a changed registry. What the second changed: a `service-port` beyond 65535 is not read, and
a config item with a number that is none or infinite is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

FIRST_REVISION = "1"
REVISION = "2"
REVISIONS = (FIRST_REVISION, REVISION)
"""All that this code can still convert as: an audit or a pin converts as the revision that made the manifest."""
SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE_URL = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"


_OF_FIRST_REVISION = {
    "ConversionSettings": {
        "host", "name", "istio_namespace", "protocol", "protocol_key", "port_key", "protocol_aliases",
        "region_key", "zone_key", "network_key", "datacenters", "config_groups",
    },
    "GuardSettings": {"service", "namespace", "datacenter"},
}  # fmt: skip
"""The settings that there were: its names tell of those only, so later settings do not make its past unknown."""


def converter_name(*settings: BaseModel, revision: str = REVISION) -> str:
    """The revision, and a short hash of the settings that snapshots depend on besides the log."""
    text = json.dumps([_dump(one, revision) for one in settings], sort_keys=True)
    return f"{revision}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _dump(settings: BaseModel, revision: str) -> dict[str, Any]:
    known = _OF_FIRST_REVISION.get(type(settings).__name__) if revision == FIRST_REVISION else None
    return settings.model_dump(mode="json", include=known)


def revision_of(converter: str, *settings: BaseModel) -> str | None:
    """The revision that a converter's name tells of; None for other settings, or a revision that is not known."""
    return next((one for one in REVISIONS if converter == converter_name(*settings, revision=one)), None)
