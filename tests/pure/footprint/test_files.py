from __future__ import annotations

import configparser
import json

import msgspec
import pytest

from netloom.cni.compiled import compiled
from netloom.cni.native import MACHINES, executable
from netloom.cni.netconf import NetworkConfig
from netloom.errors import ConfigError
from netloom.footprint.files import Layout, conflist, files, plugin, unit
from netloom.model.attachments import Wiring


def test_the_plugin_is_native_where_there_is_one_and_the_compiled_python_one_elsewhere() -> None:
    assert [plugin(machine) for machine in MACHINES] == [executable(machine).read_bytes() for machine in MACHINES]
    assert plugin("riscv64") == compiled()


def test_the_conflist_is_what_our_own_plugin_understands() -> None:
    file = conflist(Layout(cni_version="1.1.0", network="blue", wiring=Wiring.BRIDGE))
    network = json.loads(file.content)
    [own] = network["plugins"]
    assert (network["cniVersion"], network["name"], own["type"]) == ("1.1.0", "blue", "netloom")
    config = msgspec.convert({**own, "name": network["name"], "cniVersion": network["cniVersion"]}, NetworkConfig)
    assert config.wiring is Wiring.BRIDGE


def test_the_service_starts_the_program_that_is_here() -> None:
    sections = configparser.ConfigParser(interpolation=None, strict=False)
    sections.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their capitals
    sections.read_string(unit("/srv/netloom/bin/netloom").decode())
    service = sections["Service"]
    assert service["ExecStart"] == "/srv/netloom/bin/netloom agent"
    assert service["ExecStartPre"].startswith("-+"), (
        "with rights that the agent has not, and nobody's trouble if there is no such module"
    )
    assert (service["Type"], service["Restart"], service["RuntimeDirectoryPreserve"]) == ("notify", "always", "yes")


@pytest.mark.parametrize("program", ["netloom", "/my programs/netloom", "/x/%h", "/x/$HOME", "/x/n\nExecStartPre=/bin/rm"])
def test_a_program_that_systemd_would_take_apart_is_refused(program: str) -> None:
    with pytest.raises(ConfigError, match=r"^--program: systemd cannot start"):
        unit(program)


def test_modes_are_said_and_none_is_special() -> None:
    assert {file.mode for file in files(Layout())} == {0o644, 0o755}
