"""Plots, widgets, exercises and headless execution (plotly, ipywidgets, papermill)."""
