"""A lab's datastore: a file that all its agents share, or etcd on machines of its own.

With `etcd` in the topology each of its members runs in its own namespace on a switch, as it would on a machine, and nodes reach it
over the wire: by TLS, each with a certificate in its own name, all from the lab's authority.

    /run/netloom-lab/<lab>/tls             the authority, and what it has signed
                          /<member>        its data and its log

What is declared at the beginning is written into a file directly.  Into etcd `netloom apply` writes it, run where a member is: gRPC
stays in the namespace that it was first used in.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import yaml

from netloom.dataplane import netns
from netloom.datastore import connect
from netloom.errors import NetloomError
from netloom.lab import daemons, etcd, processes
from netloom.lab.certificates import Authority
from netloom.lab.record import folder, namespace_path
from netloom.lab.topology import Topology
from netloom.model.resources import AnyResource, IPPool, Metadata, builtins

_LINES = 4
_GRACE = 5.0


def file_of(lab: str) -> str:
    """The datastore of a lab without etcd."""
    return f"sqlite:{folder(lab, 'datastore.db')}"


def settings(topology: Topology, place: str) -> Mapping[str, str]:
    """What an agent's file says of the datastore."""
    if not topology.etcd:
        return {"datastore": file_of(topology.name)}
    own, authority = f"{_tls(topology)}/{place}", f"{_tls(topology)}/ca.pem"
    servers = ",".join(etcd.url(address, tls=True) for address in _members(topology).values())
    return {
        "datastore": f"etcd:{servers}",
        "etcdCaFile": authority,
        "etcdCertFile": f"{own}.pem",
        "etcdKeyFile": f"{own}.key",
    }


def prepare(topology: Topology) -> None:
    """Starts what keeps it, and declares what is known from the start: pools, manifests, and what of a node others declare (its
    agent takes such a Node over).  Raises NetloomError."""
    if topology.etcd:
        _start(topology)
        _apply(topology)
        return
    datastore = connect(file_of(topology.name))
    try:
        for resource in _declared(topology):
            datastore.create(resource)
    finally:
        datastore.close()


def end(lab: str) -> int:
    """How many members there were.  Asked nicely, each waits seven seconds for the others."""
    return processes.end(lab, _GRACE, "etcd", first=signal.SIGKILL)


def _start(topology: Topology) -> None:
    authority, members = Authority(_tls(topology)), _members(topology)
    for node in topology.nodes:
        authority.issue(node.name)
    started = [
        etcd.member(
            *(name, members),
            folder=folder(topology.name, name),
            namespace=namespace_path(topology.name, name),
            secured=etcd.Secured(authority.file, authority.issue(name, addresses=[address])),
        )
        for name, address in members.items()
    ]
    daemons.start(topology.name, started)


def _apply(topology: Topology) -> None:
    first = topology.etcd[0].name
    place = folder(topology.name, first)
    with open(f"{place}/netloom.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(dict(settings(topology, first)), file)
    with open(f"{place}/cluster.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump_all(map(builtins, _declared(topology)), file)
    namespace = netns.open_netns(namespace_path(topology.name, first))
    command = [sys.executable, "-m", "netloom", "apply", "-f", f"{place}/cluster.yaml", "--config", f"{place}/netloom.yaml"]
    with netns.entered(namespace):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetloomError("\n    ".join(("nothing can be declared in etcd", *done.stderr.splitlines()[-_LINES:])))


def _declared(topology: Topology) -> Iterator[AnyResource]:
    for i, spec in enumerate(topology.pools):
        yield IPPool(metadata=Metadata(name=f"pool-{i}"), spec=spec)
    yield from topology.declared()


def _members(topology: Topology) -> Mapping[str, str]:
    """Names and addresses, each the first of its own."""
    return {member.name: str(topology.member_addresses(member)[0].ip) for member in topology.etcd}


def _tls(topology: Topology) -> str:
    return folder(topology.name, "tls")
