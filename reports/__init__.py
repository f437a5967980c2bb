"""The pages: one self-contained HTML report from a run folder. Imports no torch and no runtime but results."""
