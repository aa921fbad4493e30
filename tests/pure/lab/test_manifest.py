import pytest

from netloom.errors import ConfigError
from netloom.lab.manifest import decode, load
from netloom.model.attachments import Wiring

GOOD = """\
name: small
switches:
  - name: rack
    subnets: [10.0.0.0/24, "fd00::/64"]
nodes:
  - {name: a, switch: rack}
  - {name: b, switch: rack}
pods:
  - name: web
    node: a
    labels: {app: web}
pools:
  - {cidr: 10.244.0.0/16, encapsulation: VXLAN}
wiring: bridge
"""


def test_a_good_file_becomes_a_topology() -> None:
    lab = decode(GOOD, "lab.yaml")
    assert (lab.name, lab.wiring, lab.mtu) == ("small", Wiring.BRIDGE, 1500)
    assert lab.pods[0].labels == {"app": "web"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "switch: rack}\n  - {name: b, switch: rack",
            "switch: rack}\n  - {name: b, switch: rock",
            "lab.yaml:7: nodes[1].switch: there is no switch 'rock'",
        ),
        ("node: a", "nodes: a", "lab.yaml:10: pods[0].nodes: there is no such field"),
        ("    node: a\n", "", "lab.yaml:9: pods[0]: Object missing required field `node`"),
        ("name: web", "name: WEB", "lab.yaml:9: pods[0].name: 'WEB' is not a name here"),
        (
            "10.244.0.0/16",
            "10.244.0.1/16",
            "lab.yaml:13: pools[0].cidr: '10.244.0.1/16' has host bits set; did you mean 10.244.0.0/16?",
        ),
        ("encapsulation: VXLAN", "encapsulation: vxlan", "lab.yaml:13: pools[0].encapsulation: Invalid enum value 'vxlan'"),
        ("encapsulation: VXLAN", "blockSize: 9", "lab.yaml:13: pools[0].blockSize: 9 is out of range"),
        ("wiring: bridge", "mtu: 9", "lab.yaml:14: mtu: 9 is out of range"),
        ("wiring: bridge", "wiring: bridge\nwiring: routed", "lab.yaml:15: wiring: is given twice"),
        ("app: web", "app: [web]", "lab.yaml:11: pods[0].labels"),
        ("wiring: bridge", "wiring: [bridge", "lab.yaml:15: is not YAML"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(GOOD.replace(old, new, 1), "lab.yaml")
    assert str(caught.value).startswith(message)


def test_aliases_are_refused_so_no_file_grows_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match=r"lab\.yaml:1: nodes\[0\]: aliases"):
        decode("nodes: &a [*a]", "lab.yaml")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "? [a]\n: b"])
def test_what_is_no_lab_at_all_is_an_error_of_the_same_kind(text: str) -> None:
    with pytest.raises(ConfigError, match=r"lab\.yaml"):
        decode(text, "lab.yaml")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/lab\.yaml: cannot be read"):
        load("/nowhere/lab.yaml")
