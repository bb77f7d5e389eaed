import pytest
from hypothesis import settings

settings.register_profile("arithlab", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("arithlab")


def group(item):
    """What one process runs: a file of tests, or of those that execute the notebooks one half of the series."""
    path = getattr(item, "callspec", None) and item.callspec.params.get("path")
    late = item.path.stem == "test_notebooks" and path is not None and path.stem[:2] > "04"
    return f"{item.path.stem}, second half" if late else item.path.stem


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Under `pytest -n` the notebooks go first, as they take longest."""
    if hasattr(config, "workerinput"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(group(item)))
        items.sort(key=lambda item: item.path.stem != "test_notebooks")
