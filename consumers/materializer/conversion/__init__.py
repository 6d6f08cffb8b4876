"""From what Nacos knows to what Istio reads. Pure: equal content gives equal bytes.

`REVISION` names the conversion: a change of its output is a new revision, so that an audit can tell a
changed conversion from a changed registry. What the second changed: a `service-port` beyond 65535 is not read, and
a config item with a number that is none or infinite is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

FIRST_REVISION = "1"
REVISION = "2"
REVISIONS = (FIRST_REVISION, REVISION)
"""All that this code can still convert as: an audit or a pin converts as the revision that made the manifest."""
SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE_URL = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"


def converter_name(*settings: BaseModel, revision: str = REVISION) -> str:
    """The revision, and a short hash of the settings that snapshots depend on besides the log."""
    text = json.dumps([one.model_dump(mode="json") for one in settings], sort_keys=True)
    return f"{revision}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def revision_of(converter: str, *settings: BaseModel) -> str | None:
    """The revision that a converter's name tells of; None for other settings, or a revision that is not known."""
    return next((one for one in REVISIONS if converter == converter_name(*settings, revision=one)), None)
