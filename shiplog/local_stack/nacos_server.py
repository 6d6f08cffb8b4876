"""A real Nacos 2.3.2 server (standalone) as a child process."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import httpx

from shiplog.local_stack.child import Child
from shiplog.local_stack.jars import class_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READY_TIMEOUT_S = 120.0
_ALONE = ("-Xms512m", "-Xmx1g", "-Dnacos.standalone=true")
_IN_A_CLUSTER = ("-Xms256m", "-Xmx512m", "-DembeddedStorage=true")


def ports_of(port: int) -> dict[int, str]:
    """The ports that a server takes besides its main one, and what for."""
    return {
        port: "Nacos",
        port + 1000: "Nacos's gRPC (main port + 1000)",
        port + 1001: "Nacos's cluster gRPC (main port + 1001)",
        port - 1000: "Nacos's JRaft (main port - 1000)",
    }


def nacos_server(
    *,
    jars: Path,
    home: Path,
    port: int,
    log: Path,
    istio_module: bool = False,
    members: Sequence[int] = (),
    wants_login: bool = False,
) -> Child:
    """A server on 127.0.0.1:port that keeps its data in `home`. Not started yet.

    `istio_module` switches on Nacos's own MCP server, on port 18848. `members` are the main ports of the cluster
    that it is part of; without them it stands alone. One that `wants_login` knows the user nacos, password nacos.
    """
    conf = home / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    if members:
        (conf / "cluster.conf").write_text("".join(f"127.0.0.1:{member}\n" for member in members))
    (conf / "application.properties").write_text(
        _properties(port, istio_module=istio_module, wants_login=wants_login)
    )
    return Child(
        name="Nacos",
        command=[
            *("java", *(_IN_A_CLUSTER if members else _ALONE), f"-Dnacos.home={home.absolute()}"),
            *(
                "--add-opens",
                "java.base/java.lang=ALL-UNNAMED",
                "--add-opens",
                "java.base/java.util=ALL-UNNAMED",
            ),
            *("-cp", class_path(jars), "com.alibaba.nacos.Nacos"),
            f"--spring.config.additional-location=file:{conf.absolute()}/",
        ],
        log=log,
        directory=home,
    )


def answers(url: str) -> bool:
    """Whether the server at that URL lists services, or would for one who logged in."""
    try:
        response = httpx.get(f"{url}/nacos/v1/ns/service/list", params={"pageNo": 1, "pageSize": 1}, timeout=2)
    except httpx.HTTPError:
        return False
    return response.status_code in {httpx.codes.OK, httpx.codes.FORBIDDEN}


def _properties(port: int, *, istio_module: bool, wants_login: bool) -> str:
    key = base64.b64encode(secrets.token_bytes(48)).decode()
    lines = [
        f"server.port={port}",
        "server.servlet.contextPath=/nacos",
        "server.tomcat.basedir=file:.",
        "nacos.inetutils.ip-address=127.0.0.1",
        "nacos.core.auth.system.type=nacos",
        f"nacos.core.auth.enabled={str(wants_login).lower()}",
        f"nacos.core.auth.plugin.nacos.token.secret.key={key}",
        f"nacos.core.auth.server.identity.key={secrets.token_hex(8)}",
        f"nacos.core.auth.server.identity.value={secrets.token_hex(8)}",
    ]
    if istio_module:
        lines += ["nacos.istio.mcp.server.enabled=true", "nacos.extension.naming.istio.enabled=true"]
    return "\n".join((*lines, ""))
