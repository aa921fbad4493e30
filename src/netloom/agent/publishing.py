"""Publishing: a thread that makes the datastore say which pods this node has.

The journal is the authority for local pods; the datastore gets a copy, later, and no pod waits for it.  Level-triggered: the
wanted Endpoints are put in place as a whole, compared with what is known to be there, and written until they agree.  One that
cannot be written does not stop the others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec

from netloom.datastore import Datastore
from netloom.errors import Conflict, DatastoreError, NotFound, Unavailable
from netloom.model.attachments import Attachment
from netloom.model.resources import Endpoint, EndpointBandwidth, EndpointSpec, Metadata

log = logging.getLogger(__name__)

KIND = "Endpoint"
_RETRY = 1.0, 30.0  # seconds: first, longest
_BREATH = 0.0005  # seconds between writes: a claim, which pods wait for, gets in between
_ATTEMPTS = 20  # at one object, when others write it at the same time


class Publisher:
    """Endpoints of one node, by their keys.  `on_failure(messages)` is told, from this thread, what could not be published, in
    words; nothing: all is well.  That the datastore is away is not told, for whoever watches it knows."""

    def __init__(self, datastore: Datastore, node: str, on_failure: Callable[[Sequence[str]], None]) -> None:
        self._datastore, self._node, self._on_failure = datastore, node, on_failure
        self._want: Mapping[str, Endpoint] | None = None
        self._have: dict[str, Endpoint] | None = None
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._want = endpoints
        self._changed.set()

    def forget(self) -> None:
        """What is there is not known any more: another store, or others changed our Endpoints."""
        self._have = None
        self._changed.set()

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()
        self._thread.join(5)

    def _run(self) -> None:
        delay = _RETRY[0]
        while not self._stopping.is_set():
            self._changed.wait()
            self._changed.clear()
            if self._try():
                delay = _RETRY[0]
            else:
                self._have = None
                self._stopping.wait(delay)
                delay = min(delay * 2, _RETRY[1])
                self._changed.set()

    def _try(self) -> bool:
        """Whether everything is as wanted now."""
        try:
            failures = self._publish()
        except DatastoreError as e:
            log.debug("publishing waits: %s", e)
            return False
        except Exception as e:
            log.exception("a fault of our own, while publishing")
            failures = [f"a fault of our own: {type(e).__name__}: {e}"]
        self._on_failure(failures)
        return not failures

    def _publish(self) -> list[str]:
        """What could not be written.  Raises DatastoreError where nothing can be."""
        want, failures = self._want, list[str]()
        if want is None:  # nobody has said yet what is wanted, which is not the same as nothing
            return failures
        have = self._have = self._have if self._have is not None else self._read()
        for key in sorted(have.keys() | want.keys()):
            endpoint = want.get(key)
            if have.get(key) == endpoint:
                continue
            self._stopping.wait(_BREATH)
            try:
                self._write(key, endpoint, known=key in have)
            except Unavailable:
                raise
            except DatastoreError as e:
                failures.append(f"{KIND} {key} is not published: {e}")
                continue
            if endpoint is None:
                del have[key]
            else:
                have[key] = endpoint
        return failures

    def _read(self) -> dict[str, Endpoint]:
        found = (stored.resource for stored in self._datastore.list(KIND).items)
        return {e.key: e for e in found if isinstance(e, Endpoint) and e.spec.node == self._node}

    def _write(self, key: str, endpoint: Endpoint | None, *, known: bool) -> None:
        """Puts it in place; None takes it away.  `known`: there is one; else nobody is asked first, for mostly there is none."""
        for _ in range(_ATTEMPTS):
            try:
                stored = self._datastore.get(KIND, key) if known else None
                known = True
                if stored is None and endpoint is not None:
                    self._datastore.create(endpoint)
                elif stored is not None and endpoint is None:
                    self._datastore.delete(KIND, key, stored.revision)
                elif stored is not None and endpoint is not None:
                    self._datastore.update(endpoint, stored.revision)
            except (Conflict, NotFound):
                continue
            except Unavailable:
                raise
            except DatastoreError:
                if endpoint is None:
                    raise
                self._datastore.delete(KIND, key)  # a record of ours that cannot be read: it is made anew
                continue
            return
        raise Conflict(f"was changed by others {_ATTEMPTS} times in a row")


def endpoint(attachment: Attachment, node: str) -> Endpoint:
    """An attachment as the cluster sees it."""
    key, asked = attachment.key, attachment.bandwidth
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
            ports=attachment.ports,
            bandwidth=EndpointBandwidth(**msgspec.structs.asdict(asked)) if asked else None,
        ),
    )
