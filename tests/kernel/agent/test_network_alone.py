"""A network that is the only one on its host: nobody is there to be kept apart from, until the next one's first ADD."""

from __future__ import annotations

from tests.agent_process import HASTY, running_machine
from tests.kernel.agent.conftest import place_of
from tests.kernel.agent.test_networks import BLUE, RED, reaches
from tests.waiting import eventually


def test_it_has_no_wall_until_another_comes() -> None:
    with running_machine({}, command=HASTY) as made, place_of(made) as found:
        assert found.add("blue", BLUE).ok
        eventually(lambda: "netloom-networks" not in found.run("nft list tables"))
        assert found.add("blue-too", BLUE).ok
        assert "netloom-networks" not in found.run("nft list tables")
        assert reaches(found.pods["blue"].netns, found.addresses["blue-too"][0])
        assert found.add("red", RED).ok
        for one, other in (("blue", "red"), ("red", "blue")):
            assert not any(reaches(found.pods[one].netns, address, 0.3) for address in found.addresses[other])
