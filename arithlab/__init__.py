"""arithlab: how small Transformers generalise, or fail to, on arithmetic."""

__version__ = "0.1.0"
