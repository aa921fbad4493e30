"""Objects: the shape that all resources share, Kubernetes' own: apiVersion, kind, metadata, and mostly a spec."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from netloom.model.validation import check_labels, check_name, check_object_name

API_VERSION: Literal["netloom.io/v1"] = "netloom.io/v1"


class Metadata(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    name: str
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_object_name(self.name)
        if self.namespace is not None:
            check_name(self.namespace, "metadata.namespace")
        check_labels(self.labels)


class Resource(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename="camel", tag_field="kind", kw_only=True
):
    """What all kinds share.  `kind` is the struct's tag; `key` is unique in a datastore."""

    NAMESPACED: ClassVar[bool] = False
    PLURAL: ClassVar[str] = ""

    api_version: Literal["netloom.io/v1"] = API_VERSION
    metadata: Metadata

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def key(self) -> str:
        """The name inside its kind: `name`, or `namespace/name` where the kind lives in namespaces."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.NAMESPACED else self.metadata.name

    def __post_init__(self) -> None:
        if self.NAMESPACED and self.metadata.namespace is None:
            raise ValueError(f"metadata.namespace: a {self.kind} lives in a namespace")
        if not self.NAMESPACED and self.metadata.namespace is not None:
            raise ValueError(f"metadata.namespace: a {self.kind} does not live in a namespace")


class Spec(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, rename="camel", omit_defaults=True, kw_only=True):
    pass
