"""The conversion of services in each of its revisions: the one place that chooses. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from consumers.materializer import held_service
from consumers.materializer.conversion import FIRST_REVISION, REVISION, endpoint
from consumers.materializer.conversion.folded_instance import default_names
from consumers.materializer.conversion.rules import rules_of
from consumers.materializer.folded_service import FoldedService
from consumers.materializer.revision_1 import endpoint as first_endpoint
from consumers.materializer.revision_1 import service_entry as first_service_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance, PortNames
    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.conversion.rules import ServiceRules
    from consumers.materializer.held_service import HeldService, Joined
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Instance, Namespace, ServiceKey

    Services = Mapping[Datacenter, HeldService]


class Endpoints(Protocol):
    """Converts the instances of one datacenter."""

    def convert(
        self, instance: Instance, names: PortNames, rules: ServiceRules | None = None, /
    ) -> FoldedInstance:
        """The instance as the fold keeps it; see `EndpointConverter`."""


class Converter(Protocol):
    """A revision of the conversion of services."""

    def endpoints(self, settings: ConversionSettings, datacenter: Datacenter) -> Endpoints:
        """What converts the instances of one datacenter."""

    def new_service(self, settings: ConversionSettings, namespace: Namespace, key: ServiceKey, /) -> FoldedService:
        """A service in one datacenter before its first instance."""

    def service_entry(
        self, settings: ConversionSettings, namespace: Namespace, name: ServiceName, services: Services
    ) -> Joined:
        """The ServiceEntry of a service, with a part for each datacenter in which it is."""


class _FirstConverter:
    """Revision 1."""

    def endpoints(self, settings: ConversionSettings, datacenter: Datacenter) -> Endpoints:
        return first_endpoint.EndpointConverter(settings, datacenter)

    def new_service(self, settings: ConversionSettings, _: Namespace, __: ServiceKey) -> FoldedService:
        return FoldedService(default_names(settings), joins_repeated=False)

    def service_entry(
        self, settings: ConversionSettings, namespace: Namespace, name: ServiceName, services: Services
    ) -> Joined:
        return held_service.Joined(first_service_entry.service_entry(settings, namespace, name, services))


class _PresentConverter:
    """The present revision."""

    def endpoints(self, settings: ConversionSettings, datacenter: Datacenter) -> Endpoints:
        return endpoint.EndpointConverter(settings, datacenter)

    def new_service(self, settings: ConversionSettings, namespace: Namespace, key: ServiceKey) -> FoldedService:
        return FoldedService(default_names(settings), rules=rules_of(settings.rules, namespace, key))

    def service_entry(
        self, settings: ConversionSettings, namespace: Namespace, name: ServiceName, services: Services
    ) -> Joined:
        return held_service.service_entry(settings, namespace, name, services)


_CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {FIRST_REVISION: _FirstConverter(), REVISION: _PresentConverter()}
)


def converter_of(revision: str) -> Converter:
    """The converter of a revision that this code knows."""
    return _CONVERTERS[revision]
