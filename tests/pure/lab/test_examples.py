from pathlib import Path

import msgspec
import pytest

from netloom.lab.manifest import load
from netloom.lab.topology import one_switch

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_lab_of_its_files_name(path: Path) -> None:
    assert load(str(path)).name == path.stem


def test_the_first_example_is_the_lab_that_comes_without_a_file() -> None:
    example = load(str(EXAMPLES[0].with_name("three-nodes.yaml")))
    built = one_switch("three-nodes")
    assert msgspec.structs.replace(example, pods=()) == msgspec.structs.replace(built, pods=())
    assert [pod.node for pod in example.pods] == [pod.node for pod in built.pods]
