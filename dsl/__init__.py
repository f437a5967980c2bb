"""The language: what a study is. Pure Python, pydantic and PyYAML; imports no torch, timm or numpy."""
