"""From what Nacos knows to what Istio reads. Pure: equal content gives equal bytes.

`REVISION` names the conversion: a change of its output is a new revision, so that an audit can tell a
changed conversion from a changed registry.
"""

REVISION = "1"
SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE_URL = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"
