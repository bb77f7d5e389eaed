from hypothesis import settings

settings.register_profile("arithlab", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("arithlab")
