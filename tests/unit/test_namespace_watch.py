"""What the watch of a namespace does when its connection fails it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from producers.errors import NacosUnavailableError
from producers.listener.namespace_view import NamespaceView
from producers.listener.namespace_watch import NamespaceWatch
from producers.settings import ListenerSettings, NacosSettings
from schemas.events import Namespace, ServiceKey


class LostConnection:
    """A connection that ends while services are being subscribed."""

    async def subscribe(self, group: str, service: str) -> Any:
        await asyncio.sleep(0)
        raise NacosUnavailableError("rpc_failed", f"{group}@@{service}")


def test_a_connection_lost_while_subscribing_is_an_ordinary_fault() -> None:
    """It comes out as it is, so that the watch connects again; in a group it would have ended the watch."""

    async def subscribe() -> None:
        watch = NamespaceWatch(
            NamespaceView(Namespace("public")),
            http=cast("Any", None),
            nacos=NacosSettings(),
            settings=ListenerSettings(),
            changed=lambda: None,
        )
        keys = {ServiceKey("g", str(number)) for number in range(200)}
        await watch._subscribe(cast("Any", LostConnection()), keys)

    with pytest.raises(NacosUnavailableError):
        asyncio.run(subscribe())
