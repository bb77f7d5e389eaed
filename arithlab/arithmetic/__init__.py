"""Tasks, domains, formats, batches and theory. NumPy only: this floor knows no torch."""
