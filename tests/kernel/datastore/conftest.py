import pytest

pytest.register_assert_rewrite("tests.pure.datastore.contract", "tests.pure.datastore.model")
