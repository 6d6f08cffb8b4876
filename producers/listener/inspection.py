"""What `/debug/services` shows of a listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.events import Namespace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.listener.namespace_watch import NamespaceWatch
    from producers.listener.namespaces import Namespaces
    from producers.listener.publication import Publication
    from producers.nacos.cluster import NacosCluster

_PAGE = 100
_SHOWN = 100


class Inspection:
    """Reads what the event loop changes; called on the admin server's thread.

    Dictionaries are copied before they are walked, which no other thread can interrupt.
    """

    def __init__(self, cluster: NacosCluster, namespaces: Namespaces, publication: Publication) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._publication = publication

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """All namespaces, or one (`namespace`) with a page of its services (`page`, from 1)."""
        namespace = Namespace(query.get("namespace", ""))
        watch = self._namespaces.watches.get(namespace)
        if watch is None:
            return {
                "nacos": self._cluster.version,
                "login": self._cluster.login,
                "namespaces": {ns: _summary(watch) for ns, watch in list(self._namespaces.watches.items())},
                "partitions": {
                    partition: {"session": tenure.session.id, "sequence": tenure.session.sequence}
                    for partition, tenure in list(self._publication.tenures.items())
                },
            }
        asked = query.get("page", "1")
        page = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
        services = sorted(watch.view.observed.items())
        return {
            "namespace": namespace,
            **_summary(watch),
            **_set_aside(watch),
            "page": page,
            "pages": -(-len(services) // _PAGE),
            "on_this_page": [
                {
                    "group": key.group,
                    "service": key.service,
                    "instances": len(known.visible),
                    "disabled": len(known.hidden),
                    "unhealthy": sum(not instance.healthy for instance in known.instances),
                    "protect_threshold": known.protect_threshold,
                }
                for key, known in services[max(0, page - 1) * _PAGE : page * _PAGE]
            ],
        }


def _summary(watch: NamespaceWatch) -> dict[str, Any]:
    """`stated` says whether a keyframe can be laid, `complete` whether all that Nacos has is known."""
    link, detail = watch.link()
    view = watch.view
    return {
        "link": link,
        "detail": detail,
        "complete": watch.is_complete,
        "stated": view.complete,
        "services": len(view.observed),
        "services_refused": len(watch.refused_services),
        "services_left_to_find": watch.left_to_find,
        "services_left_to_confirm_as_gone": watch.left_to_confirm,
        "config_items": len(view.configs),
        "config_items_refused": len(watch.refused_items),
        "config_items_unknown": dict(view.unknown_item_groups),
        "too_large_to_write": len(view.unwritable) + len(view.unwritable_items),
        "not_published_yet": view.dirty,
    }


def _set_aside(watch: NamespaceWatch) -> dict[str, dict[str, str]]:
    """Why services and config items are set aside; the first hundred of each."""
    view = watch.view
    kinds: dict[str, list[tuple[tuple[str, str], str]]] = {
        "refused": list(watch.refused_services.items()),
        "refused_config_items": list(watch.refused_items.items()),
        "not_writable": [*list(view.unwritable.items()), *list(view.unwritable_items.items())],
    }
    return {kind: {"@@".join(key): why for key, why in sorted(found)[:_SHOWN]} for kind, found in kinds.items()}
