"""Publishing: a thread that makes the datastore say what this node is and which pods it has.

The journal is the authority for local pods; the datastore gets a copy, later, and no pod waits for it.  Level-triggered: the
wanted resources are put in place as a whole, compared with what is known to be there, and written until they agree.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from netloom.datastore import Datastore
from netloom.errors import Conflict, DatastoreError, NotFound, Unavailable
from netloom.model.attachments import Attachment
from netloom.model.resources import AnyResource, Endpoint, EndpointSpec, Metadata

log = logging.getLogger(__name__)

_RETRY = 1.0
Key = tuple[str, str]


class Publisher:
    """Writes Endpoints of one node, and whatever else `want` names (its Node)."""

    def __init__(self, datastore: Datastore, node: str) -> None:
        self._datastore, self._node = datastore, node
        self._want: Mapping[Key, AnyResource] = {}
        self._have: dict[Key, AnyResource] | None = None
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self, resources: Mapping[Key, AnyResource]) -> None:
        self._want = resources
        self._changed.set()

    def forget(self) -> None:
        """What is there is not known any more (another store, a list of our own objects that others changed)."""
        self._have = None
        self._changed.set()

    def stop(self) -> None:
        self._stopping = True
        self._changed.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping:
            self._changed.wait()
            self._changed.clear()
            try:
                agrees = self._publish()
            except DatastoreError as e:
                log.debug("publishing waits: %s", e)
                agrees = False
            if not agrees and not self._stopping:
                self._have = None
                time.sleep(_RETRY)
                self._changed.set()

    def _publish(self) -> bool:
        """Whether everything is as wanted now.  A record that cannot be read or written does not stop the others."""
        have = self._have if self._have is not None else self._read()
        self._have = have
        want, agrees = self._want, True
        for key in have.keys() | want.keys():
            resource = want.get(key)
            if have.get(key) == resource:
                continue
            try:
                self._write(key, resource)
            except Unavailable:
                raise
            except DatastoreError as e:
                log.warning("%s %s is not published: %s", *key, e)
                agrees = False
                continue
            if resource is None:
                del have[key]
            else:
                have[key] = resource
        return agrees

    def _read(self) -> dict[Key, AnyResource]:
        found: dict[Key, AnyResource] = {}
        for stored in self._datastore.list("Endpoint").items:
            if isinstance(stored.resource, Endpoint) and stored.resource.spec.node == self._node:
                found["Endpoint", stored.resource.key] = stored.resource
        return found

    def _write(self, key: Key, resource: AnyResource | None) -> None:
        """Puts it in place; None takes it away."""
        while True:
            stored = self._datastore.get(*key)
            try:
                if stored is None and resource is not None:
                    self._datastore.create(resource)
                elif stored is not None and resource is None:
                    self._datastore.delete(*key, stored.revision)
                elif stored is not None and resource is not None:
                    self._datastore.update(resource, stored.revision)
            except (Conflict, NotFound):
                continue
            return


def endpoint(attachment: Attachment, node: str) -> Endpoint:
    """An attachment as the cluster sees it."""
    key = attachment.key
    return Endpoint(
        metadata=Metadata(name=attachment.host_interface, namespace=attachment.namespace, labels=dict(attachment.labels)),
        spec=EndpointSpec(
            node=node,
            network=key.network,
            container_id=key.container_id,
            interface=key.interface,
            host_interface=attachment.host_interface,
            pod=attachment.pod,
            addresses=tuple(i.ip for i in attachment.addresses),
            mac=attachment.mac,
            netns=str(attachment.netns),
        ),
    )
