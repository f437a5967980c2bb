"""Run the command line as ``python -m vitdsl``."""

from vitdsl.cli import main

if __name__ == "__main__":
    main()
