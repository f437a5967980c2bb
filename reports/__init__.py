"""The pages: one self-contained HTML report from a run folder. Free of torch; knows a run by its results."""
