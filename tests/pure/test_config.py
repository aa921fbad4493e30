from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path

import pytest

from netloom import config
from netloom.errors import ConfigError


def refusal(file: Path | None = None, environment: dict[str, str] | None = None, **flags: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(str(file) if file else None, environment or {}, **flags)
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def test_the_last_one_wins_of_file_environment_and_flags(file: Path) -> None:
    file.write_text("nodeName: a\nmtu: 1400\nlogLevel: debug\n")
    found = config.load(str(file), {"NETLOOM_NODE_NAME": "b", "NETLOOM_MTU": "1300"}, datastore="memory:", run_dir=None)
    assert (found.node_name, found.mtu, found.log_level, found.datastore) == ("b", 1300, "debug", "memory:")


def test_the_file_may_be_named_by_the_environment_and_then_has_to_be_there(file: Path) -> None:
    assert str(file) in str(refusal(environment={"NETLOOM_CONFIG": str(file)}))
    file.write_text("nodeName: a")
    assert config.load(None, {"NETLOOM_CONFIG": str(file)}).node_name == "a"


@pytest.mark.parametrize("text", ["10.0.0.1/24,fd00::1/64", "[10.0.0.1/24, 'fd00::1/64']"])
def test_a_variable_holds_several_addresses_with_commas(text: str) -> None:
    assert config.load(None, {"NETLOOM_NODE_ADDRESSES": text}).node_addresses == (
        ip_interface("10.0.0.1/24"),
        ip_interface("fd00::1/64"),
    )


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("NETLOOM_MTU", "abc", "mtu: Expected `int`, got `str`"),
        ("NETLOOM_MTU", "12", "mtu: 12 is out of range; 576 to 65535, or 0 to compute it"),
        ("NETLOOM_COOL_DOWN", "-1", "coolDown: -1.0 is out of range; 0 or more seconds"),
        ("NETLOOM_COOL_DOWN", ".nan", "coolDown: nan is out of range; 0 or more seconds"),
        ("NETLOOM_RESYNC_INTERVAL", ".inf", "resyncInterval: inf is out of range; more than 0 seconds"),
        ("NETLOOM_RUN_DIR", "here", "runDir: 'here' is not an absolute path"),
        ("NETLOOM_NODE_ADDRESSES", "10.0.0.1", "nodeAddresses: '10.0.0.1' has no prefix length; write for example 10.0.0.1/24"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_variable(variable: str, text: str, message: str) -> None:
    assert str(refusal(environment={variable: text})) == f"{variable}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodeName: 'a b'", ": nodeName: 'a b' is not a name (lower case letters, digits, '-' and '.', at most 253)"),
        ("mttu: 1", ": mttu: there is no such setting"),
        ("- mtu", ": is not a mapping of settings"),
        ("mtu: 1\nnodeName: [a", ":2: is not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_type_next(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    error = refusal(file)
    assert (str(error), error.hint) == (f"{file}{message}", "netloom agent --help lists the settings")


def test_a_variable_that_is_no_yaml_is_named() -> None:
    assert str(refusal(environment={"NETLOOM_MTU": "["})).startswith("NETLOOM_MTU:1: is not YAML")


def test_only_an_engine_that_there_is_carries_tunnels(file: Path) -> None:
    file.write_text("tunnelEngine: forwarder\n")
    assert config.load(str(file), {}).tunnel_engine == "forwarder"
    refused = refusal(environment={"NETLOOM_TUNNEL_ENGINE": "steam"})
    assert "NETLOOM_TUNNEL_ENGINE: tunnelEngine: 'steam' is none of auto, ebpf, kernel, forwarder" in str(refused)


def test_an_etcd_is_named_with_all_that_is_set_of_it(file: Path) -> None:
    file.write_text("datastore: 'etcd:https://a:2379,https://b:2379'\netcdCaFile: /etc/ca & co.pem\netcdPrefix: /nets\n")
    found = config.load(str(file), {"NETLOOM_ETCD_USER": "node"})
    assert found.target == "etcd:https://a:2379,https://b:2379?prefix=/nets&caFile=/etc/ca+%26+co.pem&user=node"
    assert found.completed("etcd:http://c?prefix=/mine") == "etcd:http://c?prefix=/mine&caFile=/etc/ca+%26+co.pem&user=node"
    assert found.completed("sqlite:/a?b") == "sqlite:/a?b"
