"""From what Nacos knows to what Istio reads. Pure: equal content gives equal bytes.

`REVISION` names the conversion: a change of its output is a new revision, so that an audit can tell a
changed conversion from a changed registry.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

REVISION = "1"
SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE_URL = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"


def converter_name(*settings: BaseModel) -> str:
    """The revision, and a short hash of the settings that snapshots depend on besides the log."""
    text = json.dumps([one.model_dump(mode="json") for one in settings], sort_keys=True)
    return f"{REVISION}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
