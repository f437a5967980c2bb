"""The machine: models, tracing, metrics, execution, results. Imports ``vitdsl.dsl`` and nothing above."""
