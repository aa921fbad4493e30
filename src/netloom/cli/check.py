"""netloom check: proofs, and what stands in the way.  Exit code 0 if all holds, 1 if not, 3 if nobody can say.

$ netloom check net
ok   1  every pod reaches every other, and is seen by its own address         180 of 180
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from netloom.cli.check_node import node
from netloom.cli.context import Context, connection, note, output_option
from netloom.cli.lab import complete_lab, require_root
from netloom.cli.printing import answer, clean, table
from netloom.errors import Unavailable
from netloom.model.showing import shown

if TYPE_CHECKING:
    from netloom.lab.checks import Proof
    from netloom.lab.probes import Place


@click.group()
def check() -> None:
    """Prove that the network does what it must; find what stands in the way."""


check.add_command(node)


@check.command()
@click.option(
    "--lab",
    "lab_name",
    metavar="NAME",
    help="The lab to prove; default: the only one on this machine.",
    shell_complete=complete_lab,
)
@click.option("--node", "this_node", is_flag=True, help="The pods of this node, even where there is a lab.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, help="Seconds that a packet may take."
)
@click.option("--matrix", is_flag=True, help="Show who reaches whom.")
@output_option
@connection
@click.pass_obj
def net(context: Context, lab_name: str | None, this_node: bool, timeout: float, matrix: bool, output: str) -> None:
    """The four rules of the Kubernetes network model, with real packets.

    Sends from inside every pod and node to every other; in a lab all of them, else those of this node.

    \b
      netloom check net
      netloom check net --lab demo --matrix
    """
    from netloom.lab.checks import prove

    begun = time.monotonic()
    with _places(context, lab_name, this_node) as places:
        proof = prove(places, timeout)
    if output == "table":
        click.echo(as_text(proof, with_matrix=matrix))
        click.echo(f"\n{len(proof.results) + len(proof.findings)} tries in {time.monotonic() - begun:.1f} s")
    else:
        click.echo(answer(output, "NetworkProof", **_fields(proof)))
    if not proof:
        raise click.exceptions.Exit(1)


def as_text(proof: Proof, *, with_matrix: bool) -> str:
    from netloom.lab import report

    parts = ["\n".join(str(line) for line in report.rules(proof))]
    if with_matrix:
        parts.append(table(*report.matrix(proof)))
        if any(map(report.is_masqueraded, proof.results)):
            parts.append(report.FOOTNOTE)
    if problems := report.failures(proof):
        parts.append("\n".join(f"NO   {clean(problem)}" for problem in problems))
    return "\n\n".join(parts)


def _fields(proof: Proof) -> dict[str, object]:
    from netloom.lab import report

    rules = [{"rule": r.rule, "text": r.text, "good": r.good, "total": r.total} for r in report.rules(proof)]
    return {"ok": bool(proof), "rules": rules, "problems": list(proof.problems())}


@contextmanager
def _places(context: Context, lab_name: str | None, this_node: bool) -> Iterator[list[Place]]:
    from netloom.lab import cluster, live, record

    require_root()
    if not this_node and (lab_name or record.names()):
        with cluster.open_lab(lab_name).places() as places:
            yield places
        return
    node = context.settings.node_name
    with context.datastore() as datastore, live.places(datastore, node) as (found, lost):
        for pod in lost:
            note(f"{pod}: no process and no name holds its network namespace any more; it is passed over")
        if len(found) < 2:
            raise Unavailable(
                f"there is nothing to prove on node {shown(node)}: it takes a pod at least", hint="netloom get pods -A"
            )
        yield found
