import re

import pytest
from hypothesis import settings

settings.register_profile("arithlab", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("arithlab")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Under `pytest -n` the notebooks go first, as they take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.stem != "test_notebooks")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Under `pytest -n` a process takes a file of tests, or a half of those that execute the notebooks."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            later = re.search(r"test_notebooks\.py::.*\[0[5-9]", nodeid)
            return "the later notebooks" if later else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # in the order above
    return ByFile(config, log)
